//! Runs cases.

use super::case::{AppendedRecord, Case, Step};
use super::comparison::{Difference, compare};
use super::observed::Observed;
use super::order::Order;
use crate::workload::Random;
use std::sync::Arc;
use tally_model::{MAC_HEADER, SEQ_HEADER, SequenceKey};
use tally_processors::Actions;
use tally_streams::simulation::{Simulation, TaskId};
use tally_streams::task::TaskError;
use tally_streams::topology::{Span, Topology};

/// So many actions of tasks follow a step at most, before the next one comes.
const ACTIONS_MAX: u64 = 8;
/// Crashes of one run between two expectations, at most.
const CRASHES_MAX: u64 = 5;

/// The result of a case.
pub enum Outcome {
    /// It passed so many runs.
    Passed(usize),
    /// The first run that failed.
    Failed(CaseFailure),
}

/// How a case failed.
pub struct CaseFailure {
    /// The order of the run.
    pub order: Order,
    /// The step that failed, where it is one of the file's.
    pub place: Option<Span>,
    /// What tasks did before, where the order was random.
    pub trace: Vec<String>,
    /// What failed.
    pub cause: Cause,
    /// Where `includes` failed, the verdicts and dead letters that it does not forbid: section, event id and text. An event
    /// that is missing may be among them.
    pub drops: Vec<[String; 3]>,
}

/// What failed.
pub enum Cause {
    /// Results that differ from what was expected.
    Differences(Vec<Difference>),
    /// The topology stopped: a process would, too.
    Stopped(String),
}

/// Runs a case in the order of the file, then in those of `always`, until one fails.
pub fn run_case(topology: &Arc<Topology<Actions>>, case: &Case) -> Outcome {
    let others = case.always.iter().flat_map(|variation| variation.orders());
    let mut runs = 0;
    for order in std::iter::once(Order::AsWritten).chain(others) {
        let mut run = Run::new(topology, case, order);
        if let Err(Failed { place, cause, drops }) = run.run(case) {
            return Outcome::Failed(CaseFailure { order, place, trace: run.trace, cause, drops });
        }
        runs += 1;
    }
    Outcome::Passed(runs)
}

/// What a task may do next.
#[derive(Clone, Copy)]
enum Action {
    Process,
    Idle,
    Commit,
}

struct Run<'a> {
    topology: &'a Arc<Topology<Actions>>,
    simulation: Simulation<Actions>,
    order: Order,
    random: Random,
    observed: Observed,
    trace: Vec<String>,
    /// By task, the records since its last commit.
    uncommitted: Vec<u64>,
    crashes_left: u64,
}

/// See [`CaseFailure`].
struct Failed {
    place: Option<Span>,
    cause: Cause,
    drops: Vec<[String; 3]>,
}

impl<'a> Run<'a> {
    fn new(topology: &'a Arc<Topology<Actions>>, case: &Case, order: Order) -> Self {
        let simulation = Simulation::new(topology.clone(), case.start_ms);
        let seed = match order {
            Order::Shuffled(seed) | Order::Crashing(seed) => seed,
            Order::AsWritten | Order::Batches(_) => 0,
        };
        let uncommitted = vec![0; simulation.tasks().count()];
        let (observed, trace) = (Observed::new(case.start_ms), Vec::new());
        Self { topology, simulation, order, random: Random::new(seed), observed, trace, uncommitted, crashes_left: 0 }
    }

    fn run(&mut self, case: &Case) -> Result<(), Failed> {
        let stopped = |error: TaskError| {
            let cause = Cause::Stopped(error.to_string());
            Failed { place: None, cause, drops: Vec::new() }
        };
        // Before the case the topology was idle: all clocks are at its start. A first clock closes nothing.
        self.settle_in_order().map_err(stopped)?;
        self.crashes_left = self.random.below(CRASHES_MAX) + 1;
        for (index, step) in case.steps.iter().enumerate() {
            if index == case.given && index > 0 {
                self.settle().map_err(stopped)?;
                self.observed.next_step();
            }
            match step {
                Step::Append(record) => self.append(record),
                Step::Pass(wall_ms) => self.simulation.pass_to(*wall_ms),
                Step::Expect(expectation) => {
                    self.settle().map_err(stopped)?;
                    self.restart_all().map_err(stopped)?;
                    self.observed.set_stores(self.simulation.store_entries());
                    let differences = compare(expectation, &self.observed);
                    if !differences.is_empty() {
                        let drops = if expectation.is_exact { Vec::new() } else { self.observed.drops() };
                        let (place, cause) = (Some(expectation.place), Cause::Differences(differences));
                        return Err(Failed { place, cause, drops });
                    }
                    self.observed.next_step();
                    self.crashes_left = self.random.below(CRASHES_MAX) + 1;
                    continue;
                }
            }
            self.act().map_err(stopped)?;
        }
        self.settle().map_err(stopped)
    }

    fn append(&mut self, record: &AppendedRecord) {
        let value = record.value.as_bytes();
        let sequence = record.sequence.map(|sequence| {
            let mac = SequenceKey(self.simulation.secret()).mac(sequence, value);
            (sequence.to_be_bytes(), mac)
        });
        let headers: Vec<(&str, &[u8])> = match &sequence {
            Some((sequence, mac)) => vec![(SEQ_HEADER, sequence), (MAC_HEADER, mac)],
            None => Vec::new(),
        };
        self.simulation.append(record.key.as_deref().map(str::as_bytes), value, &headers, record.append_time_ms);
    }

    /// What tasks do between two steps.
    fn act(&mut self) -> Result<(), TaskError> {
        match self.order {
            Order::AsWritten => self.settle(),
            Order::Batches(size) => self.process_all(size),
            Order::Shuffled(_) | Order::Crashing(_) => {
                for _ in 0..self.random.below(ACTIONS_MAX + 1) {
                    if !self.act_at_random()? {
                        break;
                    }
                }
                Ok(())
            }
        }
    }

    /// Everything is read and committed, and clocks have followed the wall clock.
    fn settle(&mut self) -> Result<(), TaskError> {
        match self.order {
            Order::AsWritten | Order::Batches(_) => self.settle_in_order()?,
            Order::Shuffled(_) | Order::Crashing(_) => while self.act_at_random()? {},
        }
        self.collect();
        Ok(())
    }

    fn settle_in_order(&mut self) -> Result<(), TaskError> {
        self.uncommitted.fill(0);
        self.simulation.settle()
    }

    /// Every task reads what there is, and commits after `size` records.
    fn process_all(&mut self, size: u64) -> Result<(), TaskError> {
        for task in self.simulation.tasks() {
            while self.simulation.is_ready(task) {
                self.simulation.process(task)?;
                self.uncommitted[task.index()] += 1;
                if self.uncommitted[task.index()] >= size {
                    self.commit_if_wanted(task)?;
                }
            }
            if self.simulation.is_idle_due(task) {
                self.simulation.idle(task)?;
            }
        }
        Ok(())
    }

    fn commit_if_wanted(&mut self, task: TaskId) -> Result<(), TaskError> {
        if self.simulation.wants_commit(task) {
            self.simulation.commit(task)?;
            self.uncommitted[task.index()] = 0;
        }
        Ok(())
    }

    /// One task does something; false if none has anything to do.
    fn act_at_random(&mut self) -> Result<bool, TaskError> {
        let mut possible = Vec::new();
        for task in self.simulation.tasks() {
            // Most of the time tasks read, so that transactions have several records.
            let (action, weight) = match self.simulation.is_ready(task) {
                true => (Action::Process, 3),
                false => (Action::Idle, u32::from(self.simulation.is_idle_due(task))),
            };
            possible.extend((0..weight).map(|_| (action, task)));
            possible.extend(self.simulation.wants_commit(task).then_some((Action::Commit, task)));
        }
        if possible.is_empty() {
            return Ok(false);
        }
        if self.crashes_left > 0 && matches!(self.order, Order::Crashing(_)) && self.random.chance(1_000) {
            self.crashes_left -= 1;
            return self.crash_at_random().map(|()| true);
        }
        let (action, task) = possible[self.random.below(possible.len() as u64) as usize];
        let name = self.simulation.name(task).to_owned();
        match action {
            Action::Process => {
                self.trace.push(format!("{name} reads"));
                self.simulation.process(task)?;
            }
            Action::Idle => {
                self.trace.push(format!("{name} idles"));
                self.simulation.idle(task)?;
            }
            Action::Commit => {
                self.trace.push(format!("{name} commits"));
                self.simulation.commit(task)?;
            }
        }
        Ok(true)
    }

    /// Some tasks lose their open transactions, by a rollback or with everything that they have in memory.
    fn crash_at_random(&mut self) -> Result<(), TaskError> {
        let is_rollback = self.random.chance(2_500);
        for task in self.simulation.tasks() {
            if self.random.chance(5_000) {
                let name = self.simulation.name(task).to_owned();
                if is_rollback {
                    self.trace.push(format!("{name} rolls back"));
                    self.simulation.rollback(task);
                } else {
                    self.trace.push(format!("{name} crashes"));
                    self.simulation.crash(task)?;
                }
            }
        }
        Ok(())
    }

    /// At an expectation all processes restart, so that what follows depends on what was committed alone.
    fn restart_all(&mut self) -> Result<(), TaskError> {
        if matches!(self.order, Order::Crashing(_)) {
            self.trace.push("all tasks restart".to_owned());
            for task in self.simulation.tasks() {
                self.simulation.crash(task)?;
            }
            self.settle()?;
        }
        Ok(())
    }

    fn collect(&mut self) {
        let records = self.simulation.take_outputs();
        self.observed.add(self.topology, records);
    }
}
