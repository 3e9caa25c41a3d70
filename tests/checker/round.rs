//! One round: people, conversations and clients of its own, and a server that dies again and again.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::clients::clearer::Clearer;
use crate::clients::device::{Device, Kind, Memory};
use crate::clients::http::Http;
use crate::clients::opener::Opener;
use crate::clients::platform::Platform;
use crate::clients::sender::Sender;
use crate::clients::steward::Steward;
use crate::clients::visitor::Visitor;
use crate::clients::watcher::Watcher;
use crate::clients::{Part, Phase};
use crate::history::{Mark, Shared};
use crate::support::{Caller, TestServer};

/// How long the clients may take to have everything answered once the server stays up.
const SETTLING_MAX: Duration = Duration::from_secs(60);
/// How long notifications, presence and receipts may follow what raised them, the time of grace included.
const QUIET: Duration = Duration::from_secs(5);

/// The people of a round and where they meet.
struct Scene {
    /// The first is in every group and is never put out.
    people: Vec<i64>,
    /// They are in the hall and never there: one reads its notifications, the other does not.
    absent: [i64; 2],
    /// They come to the hall and go from it.
    visitors: [i64; 3],
    /// A group that everybody is in.
    hall: i64,
    /// A group that people come to and go from.
    club: i64,
    /// A 1:1 of the second and the third, which both clear.
    pair: i64,
}

impl Scene {
    /// Ids are of this round alone, so that nothing of earlier rounds is shown to anybody.
    async fn new(server: &TestServer, round: u64) -> Self {
        let base = 100 * i64::try_from(round).unwrap_or_default();
        let people: Vec<i64> = (1..=5).map(|number| base + number).collect();
        let absent = [base + 6, base + 7];
        let visitors = [base + 8, base + 9, base + 10];
        let everybody = [&people[..], &absent, &visitors].concat();
        for user_id in &everybody {
            server.put_user(*user_id, "Client", &user_id.to_string()).await;
        }
        let hall = server.conversation(&everybody).await;
        let body = json!({ "participant_ids": &people[..4], "owner_id": people[0], "title": "The club" });
        let club = server.post("/api/v1/conversations", Caller::Platform, body).await.expect(201);
        let club = club["id"].as_i64().expect("a conversation has an id");
        let pair = server.conversation(&people[1..3]).await;
        Self { people, absent, visitors, hall, club, pair }
    }

    fn conversations_of(&self, user_id: i64) -> Vec<i64> {
        let mut own = vec![self.hall, self.club];
        if self.people[1..3].contains(&user_id) {
            own.push(self.pair);
        }
        own
    }
}

/// What each client of the round is given.
struct Cast {
    rng: fastrand::Rng,
    book: Shared,
    phase: watch::Receiver<Phase>,
    run: String,
    http: Http,
    address: std::net::SocketAddr,
}

impl Cast {
    fn part(&mut self, index: usize) -> Part {
        Part {
            index,
            rng: fastrand::Rng::with_seed(self.rng.u64(..)),
            address: self.address,
            book: self.book.clone(),
            phase: self.phase.clone(),
            run: self.run.clone(),
            http: self.http.clone(),
        }
    }

    fn device(&mut self, scene: &Scene, index: usize) -> Device {
        let user_id = scene.people[index % scene.people.len()];
        let mut part = self.part(index);
        let mut conversations = scene.conversations_of(user_id);
        let kind = match index / scene.people.len() {
            0 => Kind::User,
            1 => Kind::Resuming,
            _ => part.pick(&[Kind::Resuming, Kind::User, Kind::Passing]),
        };
        if kind != Kind::User {
            conversations = vec![part.pick(&conversations)];
        }
        Device { part, user_id, kind, conversations, is_slow: index % 5 == 4, memory: Memory::default() }
    }

    /// Everybody's clients, at work.
    fn begin(&mut self, scene: &Scene, clients: usize) -> JoinSet<()> {
        let people = &scene.people;
        let mut all = JoinSet::new();
        for index in 0..clients {
            all.spawn(self.device(scene, index).run());
        }
        for (index, user_id) in [people[1], people[4]].into_iter().enumerate() {
            let conversations = scene.conversations_of(user_id);
            all.spawn(Sender { part: self.part(index), user_id, conversations }.run());
        }
        let roles = people[..4].iter().map(|user_id| (*user_id, "member"));
        let mut roles: BTreeMap<i64, &'static str> = roles.collect();
        roles.insert(people[0], "owner");
        let (part, conversation_id, user_ids) = (self.part(0), scene.club, people[1..].to_vec());
        all.spawn(Steward { part, conversation_id, user_ids, roles, keyed: None }.run());
        let (part, user_ids, conversation_id) = (self.part(0), [people[1], people[2]], scene.pair);
        let joiner = self.part(2 * clients);
        all.spawn(Clearer { part, user_ids, conversation_id, joiner }.run());
        for (index, user_id) in scene.visitors.into_iter().enumerate() {
            let (part, conversation_id) = (self.part(0), scene.hall);
            let stays = index == 0;
            all.spawn(Visitor { part, user_id, conversation_id, stays }.run());
        }
        let everybody = [&people[..], &scene.absent].concat();
        let (part, user_ids, groups) = (self.part(0), everybody.clone(), vec![scene.hall, scene.club]);
        all.spawn(Platform { part, user_ids, groups, notes: Vec::new() }.run());
        let [reading, silent] = scene.absent;
        for (index, user_id) in [reading, reading, silent, people[1], people[2]].into_iter().enumerate() {
            let (part, is_active) = (self.part(clients + index), user_id != silent);
            let (shown, known, marks) = (0, Vec::new(), 0);
            all.spawn(Watcher { part, user_id, is_active, shown, known, marks }.run());
        }
        for user_id in [people[1], people[2], people[3]] {
            let (part, people, own) = (self.part(0), everybody.clone(), Vec::new());
            all.spawn(Opener { part, user_id, people, own }.run());
        }
        all
    }
}

/// Plays a round of a seed; `round` is its number on this server.
pub async fn play(server: &mut TestServer, (seed, round): (u64, u64), time: Duration, clients: usize) -> Shared {
    let scene = Scene::new(server, round).await;
    let book = Shared::default();
    let (phase, watched) = watch::channel(Phase::Storm);
    let mut cast = Cast {
        rng: fastrand::Rng::with_seed(seed),
        book: book.clone(),
        phase: watched,
        run: format!("{seed}"),
        http: Http::new(reqwest::Client::new(), server.address()),
        address: server.address(),
    };
    book.lock().pairs = vec![scene.people[1..3].to_vec()];
    book.lock().silent = vec![scene.absent[1]];
    let all = cast.begin(&scene, clients);
    storm(server, &mut cast.rng, &book, time).await;
    phase.send_replace(Phase::Settle);
    let is_settled = || {
        let book = book.lock();
        let is_answered = |marks: &[Mark]| marks.iter().all(|mark| !mark.answers.is_empty());
        book.busy == 0 && is_answered(&book.marks) && book.commands.iter().all(|command| command.is_settled())
    };
    let settled = tokio::time::timeout(SETTLING_MAX, async {
        while !is_settled() {
            sleep(Duration::from_millis(50)).await;
        }
        let from = book.lock().tick();
        sleep(QUIET).await;
        let mut book = book.lock();
        book.quiet = (from, book.tick());
    });
    if settled.await.is_err() {
        book.lock().faults.push("not everything came to its end".to_owned());
    }
    phase.send_replace(Phase::End);
    if tokio::time::timeout(SETTLING_MAX, all.join_all()).await.is_err() {
        book.lock().faults.push("some clients did not come to their end".to_owned());
    }
    book
}

/// The server dies and comes back until the time is over.
async fn storm(server: &mut TestServer, rng: &mut fastrand::Rng, book: &Shared, time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        // At times long enough for slow readers to fall behind.
        let up = if rng.u8(..4) == 0 { rng.u64(8_000..12_000) } else { rng.u64(300..4_000) };
        sleep(Duration::from_millis(up)).await;
        if rng.u8(..5) == 0 {
            server.stop().await;
        } else {
            server.kill().await;
            book.lock().kills += 1;
        }
        sleep(Duration::from_millis(rng.u64(1..400))).await;
        server.start_again().await;
    }
}
