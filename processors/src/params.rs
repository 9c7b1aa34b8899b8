//! Parameters of node types: one declaration is what is parsed and what the tables in docs/topology.md show.

use serde::Serialize;

/// Declares a struct of parameters, and `specs()`, which describes them.
///
/// The doc comment of a field is its description in the reference. `#[param(KIND, …)]` adds what the reference shows
/// besides: the type, then, in this order, as far as they apply
///
/// - `name = "…"`: the name in the file, where it is not that of the field;
/// - `default = …`: what holds where it is left out; without it the reference shows the parameter as required;
/// - `limits = …`: a sentence behind the description, for limits that are constants of the code;
/// - `each = …`: the struct of a list's items, whose parameters are shown below it.
///
/// An optional field is an `Option`, or has `#[serde(default)]`.
macro_rules! params {
    (
        $(#[doc = $summary:literal])+
        pub struct $params:ident {
            $(
                $(#[doc = $doc:literal])+
                #[param(
                    $kind:expr
                    $(, name = $name:literal)?
                    $(, default = $default:expr)?
                    $(, limits = $limits:expr)?
                    $(, each = $each:ty)?
                )]
                $(#[serde($serde:ident)])?
                pub $field:ident: $type:ty,
            )+
        }
    ) => {
        $(#[doc = $summary])+
        #[derive(Clone, Debug, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $params {
            $(
                $(#[doc = $doc])+
                $(#[serde(rename = $name)])?
                $(#[serde($serde)])?
                pub $field: $type,
            )+
        }

        impl $params {
            /// The parameters, for the reference.
            pub fn specs() -> Vec<tally_streams::topology::ParamSpec> {
                use tally_streams::topology::ParamSpec;
                let mut specs = Vec::new();
                $(
                    let path = [$($name,)? stringify!($field)][0].to_owned();
                    let default: &[String] = &[$($default.to_string())?];
                    let sentences: &[String] = &[concat!($($doc),+).trim().to_owned(), $($limits.to_string())?];
                    let items: Vec<Vec<ParamSpec>> = vec![$(<$each>::specs())?];
                    specs.push(ParamSpec {
                        path: path.clone(),
                        kind: $kind.to_string(),
                        default: default.first().cloned(),
                        about: sentences.join(" "),
                    });
                    let within = |item: ParamSpec| ParamSpec { path: format!("{path}[].{}", item.path), ..item };
                    specs.extend(items.into_iter().flatten().map(within));
                )+
                specs
            }
        }
    };
}

pub(crate) use params;

/// The struct of node types without parameters.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoParams {}

/// A value as a file has it, in back quotes.
pub fn code(value: impl Serialize) -> String {
    let value = serde_json::to_string(&value).unwrap_or_default();
    format!("`{}`", value.trim_matches('"'))
}

/// The values that a parameter may have.
pub fn one_of<const N: usize>(values: [impl Serialize; N]) -> String {
    values.map(code).join(", ")
}
