//! Threads that take turns in an order which a seed decides: a run is the same every time, and many seeds cover orders
//! that rarely occur on a real machine. Between two steps one thread runs alone.

use std::cell::RefCell;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

/// The most steps of a run: beyond that, its threads wait for each other.
const TURNS_MAX: u32 = 100_000;

/// A thread of a run.
pub(crate) type Actor = Box<dyn FnOnce() + Send>;

thread_local! {
    /// Who this thread is; None outside of a run.
    static ME: RefCell<Option<(Arc<Turns>, usize)>> = const { RefCell::new(None) };
}

struct Turns {
    state: Mutex<State>,
    /// Per thread: signalled when its turn may have come.
    wake: Vec<Condvar>,
}

struct State {
    /// Whose turn it is.
    turn: usize,
    alive: Vec<bool>,
    random: u64,
    turns: u32,
}

impl State {
    /// Xorshift (Marsaglia 2003).
    fn draw(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    /// Chooses whose turn it is among those that have not ended.
    fn choose(&mut self) {
        let alive = self.alive.iter().filter(|alive| **alive).count();
        if alive > 0 {
            let chosen = (self.draw() >> 16) as usize % alive;
            let mut indexes = (0..self.alive.len()).filter(|index| self.alive[*index]);
            self.turn = indexes.nth(chosen).unwrap_or_default();
        }
        self.turns += 1;
    }
}

impl Turns {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the turn to a thread, perhaps the same one.
    fn pass_on(&self, state: &mut State) {
        state.choose();
        self.wake[state.turn].notify_one();
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, me: usize) -> MutexGuard<'a, State> {
        self.wake[me].wait_while(state, |state| state.turn != me).unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets another thread of the run go on, perhaps this one, until it is this one's turn and `can_go_on`. Outside of a run:
/// nothing.
pub(crate) fn step(can_go_on: impl Fn() -> bool) {
    let Some((turns, me)) = ME.with_borrow(Clone::clone) else { return };
    loop {
        let mut state = turns.state();
        turns.pass_on(&mut state);
        assert!(state.turns < TURNS_MAX, "the threads wait for each other");
        drop(turns.wait(state, me));
        if can_go_on() {
            return;
        }
    }
}

/// Gives up the turn permanently, also if the thread panics.
struct End(Arc<Turns>, usize);

impl Drop for End {
    fn drop(&mut self) {
        ME.take();
        let mut state = self.0.state();
        state.alive[self.1] = false;
        self.0.pass_on(&mut state);
    }
}

/// Runs the threads to their ends. Panics where one of them does.
pub(crate) fn run(seed: u64, actors: Vec<Actor>) {
    let state =
        State { turn: 0, alive: vec![true; actors.len()], random: seed.wrapping_mul(2).wrapping_add(1), turns: 0 };
    let wake = actors.iter().map(|_| Condvar::new()).collect();
    let turns = Arc::new(Turns { state: Mutex::new(state), wake });
    turns.state().choose();
    let threads = actors.into_iter().enumerate().map(|(me, actor)| {
        let turns = turns.clone();
        thread::spawn(move || {
            let _end = End(turns.clone(), me);
            drop(turns.wait(turns.state(), me));
            ME.set(Some((turns, me)));
            actor();
        })
    });
    let threads: Vec<_> = threads.collect();
    for thread in threads {
        assert!(thread.join().is_ok(), "seed {seed}");
    }
}
