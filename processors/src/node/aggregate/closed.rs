//! Checks of an `aggregate` node that need the graph: how long its windows are open, and closed windows that it gives or
//! takes.

use crate::counting::aggregation::{Aggregation, CLOSED, WINDOW_END, WINDOW_START};
use crate::dataflow::Actions;
use crate::event_schema::closed_before;
use crate::facts::Emit;
use tally_streams::topology::{BuildSite, ConfigDuration, ParamError, Read};

/// Everything that is wrong.
pub fn check(aggregation: &Aggregation, is_limited: bool, site: &BuildSite<'_, Actions>) -> Vec<ParamError> {
    let mut errors = check_output(aggregation, site);
    let Some(at) = site.place() else { return errors };
    let closed = closed_before(site, at);
    if closed.is_empty() {
        errors.extend(check_late_after(aggregation, site));
    }
    if let Some(first) = closed.first().filter(|_| is_limited) {
        let message = format!("takes subjects in the order of the log, and `{}` has none", first.closed_name());
        errors.push(ParamError::new("max_subjects", message).with_help(format!("`max_subjects` at `{}`", first.node)));
    }
    // Each of them comes when it closes, so a window that closes earlier would lack those at its end.
    let slowest = closed.iter().max_by_key(|closed| closed.closes_after_ms());
    if let Some(slowest) = slowest.filter(|slowest| slowest.closes_after_ms() > aggregation.grace_ms)
        && !aggregation.windows.is_empty()
    {
        let (name, after) = (slowest.closed_name(), ConfigDuration::from_ms(slowest.closes_after_ms()));
        let message = format!("`{name}` gives windows up to {after} after their time, too late for a shorter grace");
        errors.push(ParamError::new("grace", message).with_help(format!("`grace: {after}` or more")));
    }
    errors
}

/// An id is forgotten after `late_after`: an event that counts later could count twice.
fn check_late_after(aggregation: &Aggregation, site: &BuildSite<'_, Actions>) -> Vec<ParamError> {
    let late_after_ms = site.settings.late_after.as_millis() as i64;
    let windows = aggregation.windows.iter().enumerate();
    let open_ms = windows.map(|(i, window)| (i, window.reach_ms() + aggregation.grace_ms));
    let too_long = open_ms.filter(|(_, open_ms)| *open_ms > late_after_ms).map(|(i, open_ms)| {
        let (open, late_after) = (ConfigDuration::from_ms(open_ms), ConfigDuration::from_ms(late_after_ms));
        let message = format!("takes events for {open} with its grace, and `late_after` is {late_after}");
        ParamError::new(format!("windows[{i}]"), message).with_help(format!("`late_after: {open}` or more"))
    });
    too_long.collect()
}

/// Its closed windows, if some node reads them.
fn check_output(aggregation: &Aggregation, site: &BuildSite<'_, Actions>) -> Vec<ParamError> {
    let is_read = |read: &Read<'_>| Some(read.node) == site.place() && read.output == Some(CLOSED);
    if !site.reads.iter().flatten().any(is_read) {
        return Vec::new();
    }
    let name = aggregation.closed_name();
    if aggregation.windows.is_empty() {
        return vec![ParamError::new("", format!("`{name}` gives closed windows, and there are no `windows`"))];
    }
    let mut errors = Vec::new();
    if aggregation.windows.len() > 1 {
        let error = ParamError::new("windows", format!("`{name}` gives windows of one kind, and there are several"));
        errors.push(error.with_help("a node of its own for each kind"));
    }
    if aggregation.emit != Emit::OnClose {
        let message = format!("`{name}` gives what a window has when it closes: this node needs `emit: on_close`");
        errors.push(ParamError::new("emit", message));
    }
    for value in aggregation.values.iter().filter(|value| [WINDOW_START, WINDOW_END].contains(&value.name())) {
        let path = format!("values.{}", value.name());
        errors.push(ParamError::new(path, format!("is the name of a property that `{name}` has anyway: rename it")));
    }
    errors
}
