//! What the description of the routes says of keys and tokens.

use crate::scope::{Scope, scope_of};
use axum::http::Method;
use tally_http::ApiProblem;
use utoipa::PartialSchema;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Components, Content, OpenApi, Ref, Response, SecurityRequirement};

const BEARER: &str = "bearer";
const API_KEY: &str = "api_key";
const LIVE_TOKEN: &str = "access_token";

/// Names the security schemes, and says of each route what it asks for.
pub fn describe(api: &mut OpenApi) {
    let components = api.components.get_or_insert_with(Components::new);
    let text = "A key of `--keys`, or a JWT that a key of `--jwks` has signed. Scopes: write, read, admin, metrics";
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(text)).build();
    components.add_security_scheme(BEARER, SecurityScheme::Http(bearer));
    let header = ApiKeyValue::with_description("X-Api-Key", "A key of `--keys`");
    components.add_security_scheme(API_KEY, SecurityScheme::ApiKey(ApiKey::Header(header)));
    let query = ApiKeyValue::with_description("access_token", "For browsers, which send no headers with this");
    components.add_security_scheme(LIVE_TOKEN, SecurityScheme::ApiKey(ApiKey::Query(query)));
    if !components.schemas.contains_key("Problem") {
        components.schemas.insert("Problem".into(), ApiProblem::schema());
    }
    for (path, item) in &mut api.paths.paths {
        let operations = [
            (Method::GET, &mut item.get),
            (Method::PUT, &mut item.put),
            (Method::POST, &mut item.post),
            (Method::DELETE, &mut item.delete),
        ];
        for (method, operation) in operations {
            let Some(operation) = operation else { continue };
            match scope_of(&method, path) {
                Some(scope) => ask(operation, scope, path == "/v1/live"),
                None => {
                    operation.security = Some(Vec::new());
                    answers_with_problem(operation, "400", "Not understood".to_owned());
                }
            }
        }
    }
}

fn ask(operation: &mut Operation, scope: Scope, live: bool) {
    let none: [&str; 0] = [];
    let mut schemes = vec![BEARER, API_KEY];
    if live {
        schemes.push(LIVE_TOKEN);
    }
    let mut ways: Vec<_> = schemes.into_iter().map(|scheme| SecurityRequirement::new(scheme, none)).collect();
    // Where no keys are configured nothing is asked for.
    ways.push(SecurityRequirement::default());
    operation.security = Some(ways);
    for (status, text) in [
        ("400", "Not understood".to_owned()),
        ("401", "No key or token, or one that is not accepted".to_owned()),
        ("403", format!("The key or token has not the scope `{scope}`, or is another actor's")),
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
    use utoipa::OpenApi as _;

    #[utoipa::path(get, path = "/v1/progress", responses((status = 200, description = "x")))]
    #[allow(dead_code)]
    fn progress() {}

    #[utoipa::path(get, path = "/livez", responses((status = 200, description = "x")))]
    #[allow(dead_code)]
    fn livez() {}

    #[derive(utoipa::OpenApi)]
    #[openapi(paths(progress, livez))]
    struct Described;

    #[test]
    fn every_route_says_what_it_asks_for() {
        let mut api = Described::openapi();
        describe(&mut api);
        let json = serde_json::to_value(&api).unwrap();
        let asked = &json["paths"]["/v1/progress"]["get"];
        assert_eq!(asked["security"], serde_json::json!([{"bearer": []}, {"api_key": []}, {}]));
        for status in ["200", "400", "401", "403", "429"] {
            assert!(asked["responses"][status].is_object(), "{status}");
        }
        assert_eq!(json["paths"]["/livez"]["get"]["security"], serde_json::json!([]));
        assert!(json["components"]["securitySchemes"]["bearer"].is_object());
    }
}
