//! Limits of one process and of several: without Redis, with Redis, and while Redis is unavailable.

use super::*;
use crate::action_limits::{Action, ActionLimits};
use prometheus::Registry;
use std::sync::Arc;
use tally_cache::redis::RedisAddress;
use tally_testkit::service;

fn metrics() -> AccessMetrics {
    AccessMetrics::new(&Registry::new()).unwrap()
}

fn services(url: &str, seed: u64) -> [Buckets; 2] {
    let service = || {
        let shared = SharedBuckets::new(RedisAddress::parse(url).unwrap());
        Buckets::new(Some((shared, seed)), metrics())
    };
    [service(), service()]
}

/// How many of the demanded tokens were granted, and after how many seconds the next one is available.
async fn take(buckets: &Buckets, who: &str, per_minute: u32, pieces: usize) -> (usize, Option<u32>) {
    let mut demands = Demands::default();
    let hash = buckets.hash(Rule::Actor, &[who]);
    let places: Vec<_> = (0..pieces).map(|_| demands.add(Rule::Actor, per_minute, hash)).collect();
    let mut grants = buckets.admit(demands).await;
    let taken: Vec<_> = places.iter().map(|place| grants.take(&[*place])).collect();
    let over = taken.iter().find_map(|taken| taken.err());
    (taken.iter().filter(|taken| taken.is_ok()).count(), over.map(|over| over.retry_after_s))
}

#[tokio::test]
async fn of_a_batch_what_fits_is_taken() {
    let buckets = Buckets::new(None, metrics());
    assert_eq!(take(&buckets, "a", 6, 4).await, (4, None));
    assert_eq!(take(&buckets, "a", 6, 4).await, (2, Some(10)));
    assert_eq!(take(&buckets, "b", 6, 1).await, (1, None));
    assert_eq!(take(&buckets, "a", 6, 1).await, (0, Some(10)));
}

#[tokio::test]
async fn what_is_over_one_limit_takes_nothing_of_the_others() {
    let buckets = Buckets::new(None, metrics());
    let mut demands = Demands::default();
    let [a, b, address] = ["a", "b", "address"].map(|who| buckets.hash(Rule::Actor, &[who]));
    let mut need = |hash, size| demands.add(Rule::Actor, size, hash);
    let events: Vec<_> = [a, a, b].into_iter().map(|actor| [need(actor, 1), need(address, 2)]).collect();
    let mut grants = buckets.admit(demands).await;
    // The second of `a` is over its limit, so that there is room for `b` from the same address.
    assert_eq!(events.iter().map(|places| grants.take(places).is_ok()).collect::<Vec<_>>(), [true, false, true]);
}

#[tokio::test]
async fn an_unavailable_redis_blocks_no_request() {
    let [service, _] = services("redis://127.0.0.1:1", 1);
    assert_eq!(take(&service, "a", 6, 8).await, (6, Some(10)));
    assert_eq!(take(&service, "a", 6, 1).await, (0, Some(10)));
}

/// Services that are connected. Until then each counts alone, others than the tests do.
async fn connected_services(url: &str, seed: u64) -> [Buckets; 2] {
    let services = services(url, seed);
    for service in &services {
        let begun = std::time::Instant::now();
        while service.metrics.shared_up.get() == 0 {
            assert!(begun.elapsed() < Duration::from_secs(120), "no connection to {url}");
            take(service, "early", 1_000_000, 1).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    services
}

/// What one service has let through, the other counts, by whatever address of the same source it comes.
#[tokio::test]
async fn a_source_has_one_bucket_at_all_services() {
    for variable in ["TALLY_TEST_REDIS", "TALLY_TEST_REDIS_CLUSTER"] {
        let Some(url) = service(variable) else { continue };
        let services = connected_services(&url, getrandom::u64().unwrap()).await;
        let limits = services.map(|buckets| ActionLimits {
            per_ip: Some(1),
            per_actor: None,
            ipv6_prefix_bits: 64,
            switches: Vec::new(),
            buckets: Arc::new(buckets),
        });
        for (service, ip, admitted) in [
            (0, "203.0.113.9", true),
            (1, "::ffff:203.0.113.9", false),
            (1, "::ffff:203.0.113.8", true),
            (0, "203.0.113.8", false),
            (0, "2001:db8::1", true),
            (1, "2001:DB8:0:0::2", false),
            (1, "2001:db8:0:1::1", true),
            (0, "2001:db8:0:1:ffff::", false),
        ] {
            let action = Action { principal: None, ip, event_type: "view", actor_id: "" };
            assert_eq!(limits[service].admit(action).await.is_ok(), admitted, "{variable}: {ip} at service {service}");
        }
    }
}

#[tokio::test]
async fn services_share_what_they_count_through_redis() {
    for variable in ["TALLY_TEST_REDIS", "TALLY_TEST_REDIS_CLUSTER"] {
        let Some(url) = service(variable) else { continue };
        let seed = getrandom::u64().unwrap();
        let [first, second] = &connected_services(&url, seed).await;
        assert_eq!(take(first, "a", 3, 2).await, (2, None), "{variable}");
        let (taken, wait) = take(second, "a", 3, 2).await;
        assert_eq!(taken, 1, "{variable}");
        assert!((1..=20).contains(&wait.unwrap()), "{wait:?}");
        assert_eq!(take(first, "a", 3, 1).await.0, 0, "{variable}: one is left, which no request may take");
        // Many at once, of all slots.
        let mut demands = Demands::default();
        let places: Vec<_> =
            (0..50).map(|n| demands.add(Rule::Ip, 7, first.hash(Rule::Ip, &[&n.to_string()]))).collect();
        let mut grants = first.admit(demands).await;
        assert!(places.iter().all(|place| grants.take(&[*place]).is_ok()));
        assert_eq!(first.metrics.shared_up.get(), 1);
    }
}
