//! gRPC over the routes of HTTP/2.
//!
//! A method is a route like every other: `POST /package.Service/Method`, behind the same guard, and counted in the same
//! metrics. Handlers read messages ([`read_message`], [`Messages`]), answer with [`reply`] or [`reply_stream`], and fail with
//! an [`ApiProblem`](crate::ApiProblem). What surrounds the routes turns each problem, the handler's as well as the
//! guard's, into the status of the call (`call`, `status`), and ends calls at their deadline.

mod call;
mod health;
mod message;
mod reflection;
mod reply;
mod status;

pub(crate) use call::{call, is_grpc};
pub use health::health;
pub use message::{Messages, read_message};
pub use reflection::{DescriptorError, reflection};
pub use reply::{Left, Replies, reply, reply_stream};
pub use status::percent_encoded;
