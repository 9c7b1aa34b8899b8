//! The value of a metric in the OpenAPI description.

use utoipa::openapi::schema::{SchemaType, Type};
use utoipa::openapi::{ObjectBuilder, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

/// The value of a metric: a number as exact text, a string, or null.
pub struct MetricJson;

impl PartialSchema for MetricJson {
    fn schema() -> RefOr<Schema> {
        let description = "The value of a metric: an integer of up to 128 bits, a decimal with up to 9 decimal places, a \
                           text of up to 512 bytes, or null where there is nothing to compute it from. Numbers are exact \
                           text.";
        let types = SchemaType::Array(vec![Type::Number, Type::String, Type::Null]);
        ObjectBuilder::new().schema_type(types).description(Some(description)).into()
    }
}

impl ToSchema for MetricJson {}
