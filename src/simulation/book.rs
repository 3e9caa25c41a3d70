//! What has happened: the logs as they were committed, the commands and their answers, what went wrong, and how often
//! each thing was seen.

use std::collections::{BTreeMap, HashMap};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::store::simulated::Committed;

/// How many lines of the story are told in the end.
const STORY_LINES: usize = 150;

/// An event as it was committed.
pub struct Entry {
    pub is_opt_in: bool,
    pub client_id: Option<String>,
}

/// Everything that is known of one run.
pub struct Book {
    begin: Instant,
    page: Mutex<Page>,
}

#[derive(Default)]
struct Page {
    logs: BTreeMap<i64, Vec<Entry>>,
    /// The event that each command has made.
    made: HashMap<String, (i64, i64)>,
    faults: Vec<String>,
    story: Vec<String>,
    totals: Totals,
}

/// How often each thing happened.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    pub events: u64,
    pub frames: u64,
    pub connections: u64,
    pub resumes: u64,
    pub repeats: u64,
    pub early: u64,
    pub fallen_behind: u64,
    pub crashes: u64,
    pub drains: u64,
    pub storms: u64,
    pub lost: u64,
    pub refused: u64,
}

impl Totals {
    pub fn add(&mut self, other: &Self) {
        let mut others = other.clone();
        for (own, other) in self.each().into_iter().zip(others.each()) {
            *own += *other;
        }
    }

    pub fn have_seen_everything(&self) -> bool {
        self.clone().each().iter().all(|count| **count > 0)
    }

    fn each(&mut self) -> [&mut u64; 12] {
        [
            &mut self.events,
            &mut self.frames,
            &mut self.connections,
            &mut self.resumes,
            &mut self.repeats,
            &mut self.early,
            &mut self.fallen_behind,
            &mut self.crashes,
            &mut self.drains,
            &mut self.storms,
            &mut self.lost,
            &mut self.refused,
        ]
    }
}

/// What came of a seed.
pub struct Outcome {
    pub story: Vec<String>,
    pub faults: Vec<String>,
    pub totals: Totals,
}

impl Outcome {
    /// The last lines of the story.
    pub fn end(&self) -> String {
        self.story[self.story.len().saturating_sub(STORY_LINES)..].join("\n")
    }
}

impl Book {
    pub fn new() -> Self {
        Self { begin: Instant::now(), page: Mutex::default() }
    }

    /// Adds a line to the story.
    pub fn tell(&self, line: String) {
        let line = format!("{:>6} {line}", self.begin.elapsed().as_millis());
        let page = &mut *self.page.lock();
        page.story.push(line);
    }

    /// Notes that something is not as it must be.
    pub fn fault(&self, fault: String) {
        self.tell(format!("WRONG: {fault}"));
        self.page.lock().faults.push(fault);
    }

    pub fn has_faults(&self) -> bool {
        !self.page.lock().faults.is_empty()
    }

    pub fn count(&self, what: impl FnOnce(&mut Totals) -> &mut u64) {
        *what(&mut self.page.lock().totals) += 1;
    }

    /// Takes in what was committed, which must go on where the logs ended, each command once.
    pub fn commit(&self, committed: &[Committed]) {
        let mut faults = Vec::new();
        let mut page = self.page.lock();
        let Page { logs, made, totals, .. } = &mut *page;
        for (conversation_id, client_id, events) in committed {
            let log = logs.entry(*conversation_id).or_default();
            for (index, told) in events.iter().enumerate() {
                let client_id = client_id.clone().filter(|_| index == 0);
                if let (Some(client_id), Some(event_id)) = (&client_id, told.event_id)
                    && let Some(before) = made.insert(client_id.clone(), (*conversation_id, event_id))
                {
                    faults.push(format!("command {client_id} took effect twice: {before:?} and event {event_id}"));
                }
                let Some(event_id) = told.event_id else { continue };
                log.push(Entry { is_opt_in: told.event.is_opt_in(), client_id });
                totals.events += 1;
                if event_id != log.len() as i64 {
                    faults.push(format!("event {event_id} was committed as number {}", log.len()));
                }
            }
        }
        // A fault is noted on the same page.
        drop(page);
        faults.into_iter().for_each(|fault| self.fault(fault));
    }

    /// Where a conversation's log ends.
    pub fn head(&self, conversation_id: i64) -> i64 {
        self.page.lock().logs.get(&conversation_id).map_or(0, |log| log.len() as i64)
    }

    /// The last event that everybody gets to see, also a client of the guide alone.
    pub fn last_for_all(&self, conversation_id: i64) -> i64 {
        let page = self.page.lock();
        let log = page.logs.get(&conversation_id);
        log.and_then(|log| log.iter().rposition(|entry| !entry.is_opt_in)).map_or(0, |index| index as i64 + 1)
    }

    /// Whether a socket that has been shown `shown` may be shown `event_id` next.
    pub fn is_next(&self, conversation_id: i64, (shown, event_id): (i64, i64), opted_in: bool) -> bool {
        let page = self.page.lock();
        let Some(log) = page.logs.get(&conversation_id) else { return false };
        let is_missing = |id: i64| opted_in || !log[id as usize - 1].is_opt_in;
        event_id > shown && event_id <= log.len() as i64 && !(shown + 1..event_id).any(is_missing)
    }

    /// Whether an event is one that only opted-in clients get, and whose `client_id` it answers.
    pub fn entry(&self, conversation_id: i64, event_id: i64) -> Option<(bool, Option<String>)> {
        let page = self.page.lock();
        let entry = page.logs.get(&conversation_id)?.get(usize::try_from(event_id).ok()?.checked_sub(1)?)?;
        Some((entry.is_opt_in, entry.client_id.clone()))
    }

    /// The whole story, what went wrong, and how often each thing happened.
    pub fn close(&self) -> Outcome {
        let page = std::mem::take(&mut *self.page.lock());
        Outcome { story: page.story, faults: page.faults, totals: page.totals }
    }
}
