//! Keys and tokens in the description of the routes.

use crate::routes::Access;
use crate::scope::Scope;
use tally_http::ApiProblem;
use utoipa::PartialSchema;
use utoipa::openapi::path::{Operation, Parameter};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Components, Content, OpenApi, Ref, RefOr, Response, SecurityRequirement};

const BEARER: &str = "bearer";
const API_KEY: &str = "api_key";
const QUERY_TOKEN: &str = "access_token";

/// Names the security schemes, and the problem that every route may answer with.
pub(crate) fn add_schemes(api: &mut OpenApi) {
    let components = api.components.get_or_insert_with(Components::new);
    let text = "A key of `--keys`, or a JWT that a key of `--jwks` has signed. Scopes: write, read, admin, metrics";
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(text)).build();
    components.add_security_scheme(BEARER, SecurityScheme::Http(bearer));
    let header = ApiKeyValue::with_description("X-Api-Key", "A key of `--keys`");
    components.add_security_scheme(API_KEY, SecurityScheme::ApiKey(ApiKey::Header(header)));
    let query = ApiKeyValue::with_description("access_token", "For browsers, which cannot set headers on this request");
    components.add_security_scheme(QUERY_TOKEN, SecurityScheme::ApiKey(ApiKey::Query(query)));
    if !components.schemas.contains_key("Problem") {
        components.schemas.insert("Problem".into(), ApiProblem::schema());
    }
}

/// Adds to each operation its security requirement and its errors.
pub(crate) fn add_access(api: &mut OpenApi, access: Access) {
    for item in api.paths.paths.values_mut() {
        let operations = [&mut item.get, &mut item.put, &mut item.post, &mut item.delete];
        for operation in operations.into_iter().flatten() {
            match access {
                Access::Needs(scope) => ask(operation, scope, &[BEARER, API_KEY]),
                Access::Lasting(scope) => ask(operation, scope, &[BEARER, API_KEY, QUERY_TOKEN]),
                Access::Open => {
                    operation.security = Some(Vec::new());
                    answers_with_problem(operation, "400", "Invalid request".to_owned());
                }
            }
        }
    }
}

fn ask(operation: &mut Operation, scope: Scope, schemes: &[&str]) {
    let none: [&str; 0] = [];
    let mut ways: Vec<_> = schemes.iter().map(|scheme| SecurityRequirement::new(*scheme, none)).collect();
    // Without configured keys, no credential is required.
    ways.push(SecurityRequirement::default());
    operation.security = Some(ways);
    // Subjects may be of a private kind.
    let is_subject =
        |parameter: &RefOr<Parameter>| matches!(parameter, RefOr::T(parameter) if parameter.name == "subject_id");
    let takes_subject = operation.parameters.iter().flatten().any(is_subject);
    let private = if takes_subject { ", or the scope `admin` for a subject of a private kind" } else { "" };
    for (status, text) in [
        ("400", "Invalid request".to_owned()),
        ("401", "Missing or invalid key or token".to_owned()),
        ("403", format!("The key or token lacks the scope `{scope}`{private}, or belongs to another actor")),
        ("429", "Over a limit; see Retry-After".to_owned()),
    ] {
        answers_with_problem(operation, status, text);
    }
}

/// An answer that every route may give, where the route itself does not describe it.
fn answers_with_problem(operation: &mut Operation, status: &str, text: String) {
    operation.responses.responses.entry(status.to_owned()).or_insert_with(|| {
        let mut response = Response::new(text);
        let content = Content::new(Some(Ref::from_schema_name("Problem")));
        response.content.insert("application/problem+json".to_owned(), content.into());
        response.into()
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routes::Routes;
    use serde_json::json;
    use utoipa::openapi::OpenApiBuilder;
    use utoipa_axum::router::OpenApiRouter;
    use utoipa_axum::routes;

    #[utoipa::path(get, path = "/v1/progress", responses((status = 200, description = "x")))]
    async fn progress() {}

    #[utoipa::path(get, path = "/v1/live", responses((status = 200, description = "x")))]
    async fn live() {}

    #[utoipa::path(get, path = "/livez", responses((status = 200, description = "x")))]
    async fn livez() {}

    #[test]
    fn every_route_says_what_it_asks_for() {
        let routes = Routes::new(Access::Needs(Scope::Admin), OpenApiRouter::new().routes(routes!(progress)));
        let routes = routes
            .merge(Routes::new(Access::Lasting(Scope::Read), OpenApiRouter::new().routes(routes!(live))))
            .merge(Routes::new(Access::Open, OpenApiRouter::new().routes(routes!(livez))));
        let json = serde_json::to_value(routes.describe(OpenApiBuilder::new().build())).unwrap();
        let asked = &json["paths"]["/v1/progress"]["get"];
        assert_eq!(asked["security"], json!([{"bearer": []}, {"api_key": []}, {}]));
        for status in ["200", "400", "401", "403", "429"] {
            assert!(asked["responses"][status].is_object(), "{status}");
        }
        let scopes = [("/v1/progress", "`admin`"), ("/v1/live", "`read`")];
        for (path, scope) in scopes {
            let refused = &json["paths"][path]["get"]["responses"]["403"]["description"];
            assert!(refused.as_str().unwrap().contains(scope), "{refused}");
        }
        let lasting = &json["paths"]["/v1/live"]["get"]["security"];
        assert_eq!(*lasting, json!([{"bearer": []}, {"api_key": []}, {"access_token": []}, {}]));
        assert_eq!(json["paths"]["/livez"]["get"]["security"], json!([]));
        assert!(json["components"]["securitySchemes"]["bearer"].is_object());
    }
}
