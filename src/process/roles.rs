//! What a process is there for: all four roles, or one of them.

use crate::commands::{
    CallerArgs, DoorArgs, Failure, LogAddress, PageArgs, ReadArgs, SiteArgs, StateArgs, StoreArgs, StreamArgs, cache,
};

/// The roles of a process, each with its arguments.
#[derive(Clone)]
pub struct Roles {
    /// What all of them need.
    pub site: SiteArgs,
    /// Takes events.
    pub ingest: Option<DoorArgs>,
    /// Counts.
    pub process: Option<(StreamArgs, StateArgs)>,
    /// Writes what was counted to the stores.
    pub sink: Option<(StoreArgs, StateArgs)>,
    /// Answers from the stores.
    pub api: Option<(StoreArgs, ReadArgs)>,
    /// What holds for the callers of doors and of APIs that write, and the cache through which these share their limits.
    pub callers: Option<(CallerArgs, String)>,
    /// The page, which whoever answers reads serves too.
    pub page: PageArgs,
    /// Sample traffic to the process's own door, events per second.
    pub demo: Option<u32>,
}

impl Roles {
    /// No role yet.
    pub fn none(site: SiteArgs) -> Self {
        let page = PageArgs::default();
        Self { site, ingest: None, process: None, sink: None, api: None, callers: None, page, demo: None }
    }

    /// Whether nobody else is needed.
    pub fn is_whole(&self) -> bool {
        self.ingest.is_some() && self.process.is_some() && self.sink.is_some() && self.api.is_some()
    }

    /// Where the process keeps what is its own, if it has such a thing.
    pub fn state(&self) -> Option<&StateArgs> {
        let process = self.process.as_ref().map(|(_, state)| state);
        process.or(self.sink.as_ref().map(|(_, state)| state))
    }

    /// Refuses addresses that these roles cannot work with, before anything is opened.
    pub fn check(&self) -> Result<LogAddress, Failure> {
        let log = self.site.log()?;
        if matches!(log, LogAddress::Embedded(_)) && !self.is_whole() {
            return Err(Failure::usage(format!(
                "--log {}: an embedded log belongs to one process: use `tally run`, or name a log that processes share, \
                 like kafka://host:9092",
                self.site.log
            )));
        }
        if let Some((_, url)) = &self.callers {
            cache("--cache", url)?;
        }
        let stores = self.sink.iter().map(|(stores, _)| stores).chain(self.api.iter().map(|(stores, _)| stores));
        for stores in stores {
            stores.database()?;
            stores.cache()?;
        }
        if let Some((stores, reads)) = &self.api {
            reads.database(stores)?;
            reads.cache(stores)?;
            self.page.check()?;
        }
        Ok(log)
    }
}
