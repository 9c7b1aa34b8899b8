//! What an actor has switched on of the subjects that it looks at.

use crate::database::DatabaseError;
use crate::reads::Reads;
use serde::Serialize;
use utoipa::ToSchema;

/// What a viewer has switched on, of these subjects.
pub async fn viewer(reads: &Reads, actor_id: &str, subjects: &[&str]) -> Result<Vec<Viewer>, DatabaseError> {
    // Without a topic of reactions the table has no rows.
    let toggles = reads.config.reactions.as_ref().map_or(&[][..], |_| reads.config.toggles.as_slice());
    let on = reads.database.switched_on(actor_id, toggles, subjects).await?;
    let owned = match &reads.config.collects {
        Some(metric) => Some((metric, reads.database.collected(actor_id, subjects).await?)),
        None => None,
    };
    let of = |subject: &&str| {
        let metrics = toggles.iter();
        let metrics = metrics.map(|metric| (metric.clone(), on.contains(&((*subject).to_owned(), metric.clone()))));
        let owned = owned.iter().map(|(metric, collected)| ((*metric).clone(), collected.contains(*subject)));
        Viewer(metrics.chain(owned).collect())
    };
    Ok(subjects.iter().map(of).collect())
}

/// By metric: whether the viewer has switched it on.
#[derive(Serialize, ToSchema)]
#[schema(value_type = std::collections::HashMap<String, bool>)]
pub struct Viewer(std::collections::BTreeMap<String, bool>);
