//! The page for Prometheus: what all cores have counted, over HTTP.

pub mod http;

mod scrape;
