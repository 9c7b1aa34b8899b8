//! A build without MySQL.

use super::connection::Address;
use tally_model::MissingFeature;

/// Refuses every address.
pub fn address(_: &str) -> Result<Box<dyn Address>, String> {
    Err(MissingFeature::MYSQL.to_string())
}
