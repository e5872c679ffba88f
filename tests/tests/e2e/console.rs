//! The admin console and the metrics page of the real router, as programs made for
//! PgBouncer and Prometheus see them.

#[path = "console/stage.rs"]
mod stage;

#[path = "console/access.rs"]
mod access;
#[path = "console/clients.rs"]
mod clients;
#[path = "console/metrics.rs"]
mod metrics;
#[path = "console/orders.rs"]
mod orders;
#[path = "console/servers.rs"]
mod servers;
#[path = "console/tables.rs"]
mod tables;
