//! What happened in the simulation's runs, so that one in which nothing happens does not pass.

/// How often each thing happened.
#[derive(Debug, Default)]
pub struct Totals {
    pub events: usize,
    pub gaps: usize,
    pub moved_on: usize,
    pub fallen_behind: usize,
    pub crashes: usize,
    pub repeats: usize,
    pub resumes: usize,
}

impl Totals {
    pub fn add(&mut self, other: &Self) {
        self.events += other.events;
        self.gaps += other.gaps;
        self.moved_on += other.moved_on;
        self.fallen_behind += other.fallen_behind;
        self.crashes += other.crashes;
        self.repeats += other.repeats;
        self.resumes += other.resumes;
    }

    pub fn has_seen_everything(&self) -> bool {
        let each =
            [self.events, self.gaps, self.moved_on, self.fallen_behind, self.crashes, self.repeats, self.resumes];
        !each.contains(&0)
    }
}
