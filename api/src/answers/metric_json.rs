//! The value of a metric in the OpenAPI description.

use utoipa::openapi::schema::{AnyOfBuilder, SchemaType, Type};
use utoipa::openapi::{KnownFormat, ObjectBuilder, RefOr, Schema, SchemaFormat};
use utoipa::{PartialSchema, ToSchema};

/// The value of a metric: a number as exact text, a string, or null.
pub struct MetricJson;

impl PartialSchema for MetricJson {
    /// One schema for each form: not every generator of clients takes a schema of several types.
    fn schema() -> RefOr<Schema> {
        let description = "The value of a metric: an integer of up to 128 bits, a decimal with up to 9 decimal places, a \
                           text of up to 512 bytes, or null where there is nothing to compute it from. Numbers are exact \
                           text.";
        let form = |of: Type, format: Option<KnownFormat>| {
            let form = ObjectBuilder::new().schema_type(SchemaType::Type(of));
            form.format(format.map(SchemaFormat::KnownFormat))
        };
        let forms = AnyOfBuilder::new()
            .item(form(Type::Integer, Some(KnownFormat::Int64)))
            .item(form(Type::Number, Some(KnownFormat::Double)))
            .item(form(Type::String, None))
            .item(form(Type::Null, None));
        Schema::AnyOf(forms.description(Some(description)).build()).into()
    }
}

impl ToSchema for MetricJson {}
