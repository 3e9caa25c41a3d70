//! The simulated system: an agenda of steps in the order of simulated time, and what each does.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use tidings::hub::{Bounds, Delivery, Hub, Issuer, Kind, Outbox};
use tidings::protocol::Topic;
use tidings::protocol::client::Endpoint;
use tidings::protocol::server::with_client_id;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::socket::{Connection, Socket};
use super::totals::Totals;

const TOPIC: Topic = Topic::Conversation(1);
/// Until when things go wrong, and until when all must have come right, in simulated milliseconds.
const TROUBLE: u64 = 4_000;
const END: u64 = 9_000;
const POSITION_CHECK: u64 = 1_000;
const PAGE: usize = 3;
const BOUNDS: Bounds = Bounds { frames_max: 24, bytes_max: 4_096 };

/// An event of the log, which is all that the store is: event 1 comes first.
pub struct Entry {
    pub command: usize,
    pub is_opt_in: bool,
}

/// What a client asks for; its index is its `client_id`.
#[derive(Default)]
pub struct Command {
    pub event_id: Option<i64>,
    is_opt_in: bool,
}

/// A command on a server, and where it came from.
#[derive(Clone)]
struct Job {
    command: usize,
    outbox: Option<Arc<Outbox>>,
}

struct Server {
    hub: Arc<Hub>,
    gaps: mpsc::Receiver<Topic>,
    life: u32,
    waiting: Vec<Job>,
    /// Held from the beginning of a commit until its events are told, and while a repair reads and tells.
    is_busy: bool,
    repair_waits: bool,
}

impl Server {
    fn new(life: u32) -> Self {
        let (hub, gaps) = Hub::new(std::time::Duration::from_secs(6));
        Self { hub, gaps, life, waiting: Vec::new(), is_busy: false, repair_waits: false }
    }
}

#[derive(Clone)]
enum Step {
    Connect { socket: usize },
    Position { socket: usize, life: u32 },
    Page { socket: usize, life: u32 },
    Join { socket: usize, life: u32 },
    Read { socket: usize, life: u32 },
    Written { socket: usize, life: u32, frames: usize, bytes: usize },
    Leave { socket: usize },
    Send { socket: usize },
    Commit { server: usize, life: u32 },
    Announce { server: usize, life: u32, jobs: Vec<(Job, bool)> },
    Bus { server: usize, life: u32, event_id: i64 },
    Check { server: usize },
    Repair { server: usize, life: u32 },
    Repaired { server: usize, life: u32, up_to: i64 },
    Crash { server: usize },
    Storm { server: usize },
}

pub struct World {
    rng: fastrand::Rng,
    now: u64,
    planned: u64,
    agenda: BTreeMap<(u64, u64), Step>,
    log: Vec<Entry>,
    commands: Vec<Command>,
    servers: Vec<Server>,
    sockets: Vec<Socket>,
    totals: Totals,
    story: VecDeque<String>,
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let servers = (0..rng.usize(1..=3)).map(|_| Server::new(0)).collect();
        let paces = [1, 1, 5, 40, 400];
        let sockets = (0..rng.usize(2..=6)).map(|_| Socket::new(rng.u8(..4) > 0, paces[rng.usize(..paces.len())]));
        let sockets = sockets.collect();
        let mut world = Self {
            rng,
            now: 0,
            planned: 0,
            agenda: BTreeMap::new(),
            log: Vec::new(),
            commands: Vec::new(),
            servers,
            sockets,
            totals: Totals::default(),
            story: VecDeque::new(),
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        for socket in 0..self.sockets.len() {
            self.plan(0..200, Step::Connect { socket });
            self.plan(0..400, Step::Send { socket });
            self.plan(200..2_000, Step::Leave { socket });
        }
        for server in 0..self.servers.len() {
            self.plan(0..POSITION_CHECK, Step::Check { server });
            self.plan(100..2 * TROUBLE, Step::Crash { server });
            self.plan(100..8 * TROUBLE, Step::Storm { server });
        }
    }

    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// The last things that happened.
    pub fn story(&self) -> String {
        self.story.iter().map(|line| format!("{line}\n")).collect()
    }

    /// Runs to the end of simulated time, and checks that all has come right by then.
    pub fn run(&mut self) {
        while let Some(((at, _), step)) = self.agenda.pop_first().filter(|((at, _), _)| *at <= END) {
            self.now = at;
            self.take(step);
        }
        self.totals.events += self.log.len();
        for (index, socket) in self.sockets.iter().enumerate() {
            self.story.push_back(format!("end: socket {index} at {:?} of {}", socket.shown, self.log.len()));
            socket.conclude(&self.log);
        }
    }

    fn plan(&mut self, delay: std::ops::Range<u64>, step: Step) {
        self.planned += 1;
        let at = self.now + self.rng.u64(delay);
        self.agenda.insert((at, self.planned), step);
    }

    fn is_trouble(&self) -> bool {
        self.now < TROUBLE
    }

    fn tell(&mut self, line: String) {
        if self.story.len() == 60 {
            self.story.pop_front();
        }
        self.story.push_back(format!("{:>6} {line}", self.now));
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Connect { socket } => self.connect(socket),
            Step::Position { socket, life } if self.sockets[socket].life == life => self.find_position(socket),
            Step::Page { socket, life } if self.sockets[socket].life == life => self.replay(socket),
            Step::Join { socket, life } if self.sockets[socket].life == life => self.join(socket),
            Step::Read { socket, life } if self.sockets[socket].life == life => self.read(socket),
            Step::Written { socket, life, frames, bytes } if self.sockets[socket].life == life => {
                if let Some(connection) = &self.sockets[socket].connection {
                    connection.outbox.written(frames, bytes);
                }
                self.plan(1..3, Step::Read { socket, life });
            }
            Step::Leave { socket } => self.leave(socket),
            Step::Send { socket } => self.send(socket),
            Step::Commit { server, life } if self.servers[server].life == life => self.commit(server),
            Step::Announce { server, life, jobs } if self.servers[server].life == life => self.announce(server, jobs),
            Step::Bus { server, life, event_id } if self.servers[server].life == life => {
                self.deliver(server, event_id, None);
            }
            Step::Check { server } => self.check(server),
            Step::Repair { server, life } if self.servers[server].life == life => self.repair(server),
            Step::Repaired { server, life, up_to } if self.servers[server].life == life => self.repaired(server, up_to),
            Step::Crash { server } => self.crash(server),
            Step::Storm { server } => self.storm(server),
            _ => {}
        }
    }

    // A socket: from its seat and position to live, as `socket/join.rs` has it.

    fn connect(&mut self, index: usize) {
        let server = self.rng.usize(..self.servers.len());
        let socket = &mut self.sockets[index];
        let hub = &self.servers[server].hub;
        let (id, user_id) = (hub.next_connection_id(), index as i64 + 1);
        let outbox = Arc::new(Outbox::new(id, user_id, Endpoint::Chat, socket.opted_in, BOUNDS));
        let (sent, answered) = (HashMap::new(), HashMap::new());
        let seat = hub.open(TOPIC);
        socket.connection = Some(Connection { seat, outbox, position: 0, is_live: false, sent, answered });
        socket.server = server;
        let life = socket.life;
        self.tell(format!("socket {index} connects to server {server}"));
        self.plan(0..20, Step::Position { socket: index, life });
    }

    fn find_position(&mut self, index: usize) {
        let head = self.log.len() as i64;
        let socket = &mut self.sockets[index];
        let resumes = socket.opted_in && socket.shown.is_some();
        let position = socket.shown.filter(|_| resumes).unwrap_or(head);
        socket.shown = Some(position);
        let life = socket.life;
        if let Some(connection) = &mut socket.connection {
            connection.position = position;
        }
        self.totals.resumes += usize::from(resumes);
        match resumes {
            true => self.plan(0..20, Step::Page { socket: index, life }),
            false => self.plan(0..20, Step::Join { socket: index, life }),
        }
    }

    fn replay(&mut self, index: usize) {
        let socket = &mut self.sockets[index];
        let life = socket.life;
        let Some(connection) = &mut socket.connection else { return };
        let (from, head) = (connection.position, self.log.len());
        let to = head.min(from as usize + PAGE);
        connection.position = to as i64;
        for event_id in from + 1..=to as i64 {
            if socket.opted_in || !self.log[event_id as usize - 1].is_opt_in {
                socket.show(&frame(event_id, false), &self.log, &self.commands);
            }
        }
        self.tell(format!("socket {index} is shown {} to {to} of {head}", from + 1));
        match to == head {
            true => self.plan(0..20, Step::Join { socket: index, life }),
            false => self.plan(0..20, Step::Page { socket: index, life }),
        }
    }

    fn join(&mut self, index: usize) {
        let socket = &mut self.sockets[index];
        let life = socket.life;
        let Some(connection) = &mut socket.connection else { return };
        let joined = connection.seat.join(&connection.outbox, Kind::Attending, connection.position, 0);
        if joined.is_err() {
            self.totals.moved_on += 1;
            return self.plan(0..10, Step::Page { socket: index, life });
        }
        connection.is_live = true;
        let position = connection.position;
        self.tell(format!("socket {index} is live from {position}"));
        self.plan(0..5, Step::Read { socket: index, life });
        for command in self.sockets[index].unanswered.clone() {
            self.submit(index, command);
        }
    }

    fn read(&mut self, index: usize) {
        let pace = if self.is_trouble() { self.sockets[index].pace } else { 1 };
        let socket = &mut self.sockets[index];
        let life = socket.life;
        let Some(connection) = &socket.connection else { return };
        let Some(batch) = connection.outbox.take() else {
            return self.plan(1..8, Step::Read { socket: index, life });
        };
        if batch.close.is_some() {
            self.totals.fallen_behind += 1;
            self.tell(format!("socket {index} has fallen behind"));
            return self.disconnect(index);
        }
        let (frames, bytes) = (batch.frames.len(), batch.frames.iter().map(|item| item.frame.len()).sum());
        for item in batch.frames {
            self.tell(format!("socket {index} is shown {}", String::from_utf8_lossy(&item.frame)));
            self.sockets[index].show(&item.frame, &self.log, &self.commands);
        }
        self.plan(pace..pace * 2 + 1, Step::Written { socket: index, life, frames, bytes });
    }

    fn leave(&mut self, index: usize) {
        if self.is_trouble() {
            self.plan(100..2_000, Step::Leave { socket: index });
            if self.sockets[index].connection.is_some() {
                self.disconnect(index);
            }
        }
    }

    fn disconnect(&mut self, index: usize) {
        self.sockets[index].life += 1;
        self.sockets[index].connection = None;
        self.plan(1..300, Step::Connect { socket: index });
    }

    // A command: from the socket to the log and to everybody, as `chat/committer.rs` has it.

    fn send(&mut self, index: usize) {
        if !self.is_trouble() {
            return;
        }
        self.plan(1..300, Step::Send { socket: index });
        if self.sockets[index].connection.as_ref().is_some_and(|connection| connection.is_live) {
            let command = self.commands.len();
            self.commands.push(Command { event_id: None, is_opt_in: self.rng.u8(..8) == 0 });
            self.sockets[index].unanswered.push(command);
            self.submit(index, command);
            if self.rng.u8(..8) == 0 {
                self.submit(index, command);
            }
        }
    }

    fn submit(&mut self, index: usize, command: usize) {
        let socket = &mut self.sockets[index];
        let server = socket.server;
        let Some(connection) = &mut socket.connection else { return };
        *connection.sent.entry(command).or_default() += 1;
        let outbox = Some(connection.outbox.clone());
        self.servers[server].waiting.push(Job { command, outbox });
        let life = self.servers[server].life;
        self.plan(0..5, Step::Commit { server, life });
    }

    fn commit(&mut self, server: usize) {
        if self.servers[server].is_busy || self.servers[server].waiting.is_empty() {
            return;
        }
        self.servers[server].is_busy = true;
        let mut jobs = Vec::new();
        for job in std::mem::take(&mut self.servers[server].waiting) {
            let command = &mut self.commands[job.command];
            let is_repeat = command.event_id.is_some();
            if !is_repeat {
                self.log.push(Entry { command: job.command, is_opt_in: command.is_opt_in });
                command.event_id = Some(self.log.len() as i64);
            }
            self.totals.repeats += usize::from(is_repeat);
            jobs.push((job, is_repeat));
        }
        self.tell(format!("server {server} commits up to {}", self.log.len()));
        let life = self.servers[server].life;
        self.plan(0..30, Step::Announce { server, life, jobs });
    }

    fn announce(&mut self, server: usize, jobs: Vec<(Job, bool)>) {
        for (job, is_repeat) in jobs {
            let event_id = self.commands[job.command].event_id.expect("it is committed");
            let client_id = job.command.to_string();
            if is_repeat {
                if let Some(outbox) = &job.outbox {
                    outbox.push(with_client_id(&frame(event_id, true), &client_id));
                }
                continue;
            }
            self.deliver(server, event_id, job.outbox.as_ref().map(|outbox| (outbox, client_id.as_str())));
            for other in (0..self.servers.len()).filter(|other| *other != server) {
                let life = self.servers[other].life;
                let copies = if self.is_trouble() { [0, 1, 1, 1, 1, 1, 1, 2][self.rng.usize(..8)] } else { 1 };
                for _ in 0..copies {
                    let delay = if self.rng.u8(..4) == 0 { 0..300 } else { 0..10 };
                    self.plan(delay, Step::Bus { server: other, life, event_id });
                }
            }
        }
        self.let_go(server);
    }

    fn deliver(&mut self, server: usize, event_id: i64, issuer: Option<(&Arc<Outbox>, &str)>) {
        let frame = frame(event_id, false);
        let delivery = Delivery {
            event_id: Some(event_id),
            is_opt_in: self.log[event_id as usize - 1].is_opt_in,
            issuer: issuer
                .map(|(outbox, client_id)| Issuer { connection_id: outbox.id, client_id: Some(client_id.to_owned()) }),
            ..Delivery::new(frame.clone())
        };
        let delivered = self.servers[server].hub.deliver(TOPIC, delivery);
        if let Some((outbox, client_id)) = issuer
            && !delivered.issuer_told
            && !delivered.has_gap
        {
            outbox.push(with_client_id(&frame, client_id));
        }
        if self.servers[server].gaps.try_recv().is_ok() {
            self.totals.gaps += 1;
            let life = self.servers[server].life;
            self.plan(0..20, Step::Repair { server, life });
        }
    }

    // What a server does by the clock, as `chat/timers.rs` has it.

    fn check(&mut self, server: usize) {
        self.plan(POSITION_CHECK..POSITION_CHECK + 1, Step::Check { server });
        let idle = self.servers[server].hub.idle_since(Instant::now());
        if idle.iter().any(|(_, position)| *position < self.log.len() as i64) {
            let life = self.servers[server].life;
            self.plan(0..20, Step::Repair { server, life });
        }
    }

    fn repair(&mut self, server: usize) {
        if self.servers[server].is_busy {
            self.servers[server].repair_waits = true;
            return;
        }
        let position = self.servers[server].hub.room(TOPIC).and_then(|room| room.last_event_id());
        let up_to = position.map(|position| self.log.len().min(position as usize + 2 * PAGE) as i64);
        if let Some(up_to) = up_to.filter(|up_to| Some(*up_to) > position) {
            self.servers[server].is_busy = true;
            let life = self.servers[server].life;
            self.plan(0..20, Step::Repaired { server, life, up_to });
        }
    }

    fn repaired(&mut self, server: usize, up_to: i64) {
        let position = self.servers[server].hub.room(TOPIC).and_then(|room| room.last_event_id());
        self.tell(format!("server {server} repairs from {position:?} to {up_to}"));
        for event_id in position.map_or(up_to, |position| position) + 1..=up_to {
            self.deliver(server, event_id, None);
        }
        self.servers[server].repair_waits = true;
        self.let_go(server);
    }

    /// Ends what kept a server busy, and lets go on what waited for that.
    fn let_go(&mut self, server: usize) {
        let life = self.servers[server].life;
        self.servers[server].is_busy = false;
        self.plan(0..5, Step::Commit { server, life });
        if std::mem::take(&mut self.servers[server].repair_waits) {
            self.plan(0..5, Step::Repair { server, life });
        }
    }

    fn crash(&mut self, server: usize) {
        if !self.is_trouble() {
            return;
        }
        self.totals.crashes += 1;
        self.tell(format!("server {server} crashes"));
        for index in 0..self.sockets.len() {
            if self.sockets[index].connection.is_some() && self.sockets[index].server == server {
                self.disconnect(index);
            }
        }
        let life = self.servers[server].life + 1;
        self.servers[server] = Server::new(life);
        self.plan(500..2 * TROUBLE, Step::Crash { server });
    }

    /// More events at once than a topic parks; nobody's answers.
    fn storm(&mut self, server: usize) {
        if self.is_trouble() {
            for _ in 0..500 {
                let command = self.commands.len();
                self.commands.push(Command::default());
                self.servers[server].waiting.push(Job { command, outbox: None });
            }
            let life = self.servers[server].life;
            self.plan(0..5, Step::Commit { server, life });
        }
    }
}

fn frame(event_id: i64, is_repeat: bool) -> Bytes {
    let repeated = if is_repeat { r#","repeated":true"# } else { "" };
    format!(r#"{{"event_id":{event_id}{repeated}}}"#).into()
}
