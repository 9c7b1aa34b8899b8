//! Routes, and the access that each requires: declared where the route is registered, and read from there by the guard
//! and by the description.

use crate::description;
use crate::guard::Guard;
use crate::scope::Scope;
use axum::Router;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;

/// The requirements of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nothing: probes, the description, the page and its files.
    Open,
    /// A key or a token with this scope.
    Needs(Scope),
    /// The same for an answer without end, which ends when what let its caller in does. The token may stand in the query:
    /// browsers send no headers with server-sent events.
    Lasting(Scope),
}

/// Routes, none of which can be served before its required access is declared.
#[derive(Default)]
pub struct Routes(Vec<(Access, OpenApiRouter)>);

impl Routes {
    /// Routes that require the same access. There is at least one.
    pub fn new(access: Access, routes: impl Into<OpenApiRouter>) -> Self {
        Self(vec![(access, routes.into())])
    }

    /// The routes of both.
    pub fn merge(mut self, mut others: Self) -> Self {
        self.0.append(&mut others.0);
        self
    }

    /// The description of all routes, each with its requirements, merged into `description`.
    pub fn describe(&self, mut description: OpenApi) -> OpenApi {
        description::add_schemes(&mut description);
        for (access, routes) in &self.0 {
            let mut described = routes.get_openapi().clone();
            description::add_access(&mut described, *access);
            description.merge(described);
        }
        description
    }

    /// All routes, those that are not open behind the guard. Without a guard every caller has every permission.
    pub fn into_router(self, guard: Option<&Guard>) -> Router {
        let guarded = self.0.into_iter().map(|(access, routes)| {
            let router = Router::from(routes);
            match (guard, access) {
                (Some(guard), Access::Needs(scope)) => guard.wrap(router, scope, false),
                (Some(guard), Access::Lasting(scope)) => guard.wrap(router, scope, true),
                (None, _) | (_, Access::Open) => router,
            }
        });
        guarded.fold(Router::new(), Router::merge)
    }
}
