//! The lines of the examination: numbered steps, their outcome, and what helps. Knows nothing of their subject.

use std::io::Write;

use anyhow::Result;

/// Writes the steps one after the other.
pub struct Report<W> {
    out: W,
    steps: u32,
}

impl<W: Write> Report<W> {
    pub fn new(out: W) -> Self {
        Self { out, steps: 0 }
    }

    pub fn ok(&mut self, step: &str, found: &str) -> Result<()> {
        self.step(step, "ok", found)
    }

    /// Something that could not be examined, or needs no judgement.
    pub fn note(&mut self, step: &str, found: &str) -> Result<()> {
        self.step(step, "-", found)
    }

    pub fn fail(&mut self, step: &str, found: &str, cure: &str) -> Result<()> {
        self.step(step, "FAIL", found)?;
        self.detail(&format!("what to do: {cure}"))
    }

    /// One more line to the step before.
    pub fn detail(&mut self, text: &str) -> Result<()> {
        Ok(writeln!(self.out, "{:19}{text}", "")?)
    }

    /// The last lines of an examination that ended well; always true.
    pub fn accepted(&mut self, close_code: &str) -> Result<bool> {
        writeln!(self.out, "close code: {close_code}\nThe connection was accepted.")?;
        Ok(true)
    }

    /// The last lines of one that did not; always false.
    pub fn refused(&mut self, close_code: &str) -> Result<bool> {
        writeln!(self.out, "close code: {}\nThe connection was refused.", close_code.trim_end())?;
        Ok(false)
    }

    fn step(&mut self, step: &str, outcome: &str, found: &str) -> Result<()> {
        self.steps += 1;
        writeln!(self.out, "{:2}. {step:<10}{outcome:<5}{found}", self.steps)?;
        // Each line is seen at once, also where stdout is a pipe: the next step may take seconds.
        Ok(self.out.flush()?)
    }
}
