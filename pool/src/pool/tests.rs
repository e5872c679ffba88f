//! Pools before a server that trusts everybody.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::endpoint::{Address, Encryption, Endpoint, EndpointId};
use crate::line::Lines;
use crate::open::OpenSettings;
use crate::resolve::Resolving;
use crate::wire::Keepalive;
use mothership_proto::auth::{KeyCache, LoginRules};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::LocalSet;

const SECOND: Duration = Duration::from_secs(1);
const ASKING: Asking = Asking {
    priority: Priority::New(0),
    lined_up: None,
    elsewhere: false,
};
/// AuthenticationOk, BackendKeyData, ReadyForQuery.
const WELCOME: &[u8] = b"R\0\0\0\x08\0\0\0\0K\0\0\0\x0c\0\0\0\x01\0\0\0\x02Z\0\0\0\x05I";
const GOODBYE: &[u8] = b"E\0\0\0\x18SFATAL\0C57P01\0Mbye\0\0";

/// A server that says `last` after each login, and counts them.
async fn server(last: &'static [u8]) -> (Address, Rc<Cell<u32>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Address::Tcp("127.0.0.1".into(), listener.local_addr().unwrap().port());
    let logins = Rc::new(Cell::new(0));
    let count = Rc::clone(&logins);
    tokio::task::spawn_local(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            count.set(count.get() + 1);
            tokio::task::spawn_local(async move {
                let length = client.read_u32().await.unwrap();
                let mut rest = vec![0; length as usize - 4];
                client.read_exact(&mut rest).await.unwrap();
                client.write_all(&[WELCOME, last].concat()).await.unwrap();
                // Open until the other side is not.
                while client.read(&mut rest).await.is_ok_and(|n| n > 0) {}
            });
        }
    });
    (address, logins)
}

fn pool(address: Address, limit: &Arc<Limit>) -> Rc<Pool<()>> {
    let endpoint = Endpoint {
        id: EndpointId(0),
        address,
        encryption: Encryption::Disable,
        tls_name: None,
        tls_direct: false,
        interpreter: None,
    };
    let opening = OpenSettings {
        timeout: SECOND * 10,
        lifetime: SECOND * 3600,
        lifetime_jitter: 0.0,
        server_message: 1 << 20,
        resolving: Resolving {
            interval: SECOND,
            most: 1,
        },
        user_timeout: None,
        keepalive: Keepalive::default(),
    };
    let opener = Opener::new(
        Arc::new(endpoint),
        "app".into(),
        "app".into(),
        Credentials::None,
        LoginRules::default(),
        opening,
        Rc::new(RefCell::new(KeyCache::new(1))),
    );
    let settings = PoolSettings {
        min: 0,
        idle_timeout: SECOND * 60,
        queue_timeout: SECOND * 10,
        join_timeout: SECOND * 10,
        join_reserve: 0,
        retry_pause: SECOND * 5,
        retry_pause_max: SECOND * 5,
    };
    Pool::new(opener, (Arc::clone(limit), Lines::new(9).line(9)), settings)
}

// A reload of `pool.max` changes the limit of pools that exist.
#[tokio::test]
async fn a_limit_that_was_raised_lets_that_many_be_lent() {
    let test = async {
        let (address, logins) = server(b"").await;
        let limit = Limit::new(1);
        let pool = pool(address, &limit);
        let mut lent = vec![pool.lease(ASKING).await.unwrap()];
        limit.set_max(5);
        for _ in 0..4 {
            let lease = tokio::time::timeout(SECOND * 5, pool.lease(ASKING)).await;
            lent.push(lease.expect("there is room").unwrap());
        }
        assert_eq!((logins.get(), limit.open()), (5, 5));
        assert_eq!(pool.figures().active, 5);
        // They lie idle together, too.
        lent.clear();
        assert_eq!((pool.figures().idle, limit.open()), (5, 5));
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn a_server_that_ends_each_connection_at_once_is_not_asked_for_another_without_a_pause() {
    let test = async {
        let (address, logins) = server(GOODBYE).await;
        let pool = pool(address, &Limit::new(5));
        for _ in 0..3 {
            let lease = tokio::time::timeout(SECOND * 5, pool.lease(ASKING)).await;
            let error = lease.expect("it does not go on and on").err();
            assert!(matches!(
                error,
                Some(LeaseError::Open(_) | LeaseError::Resting(_))
            ));
        }
        assert_eq!(logins.get(), 1);
        let figures = pool.figures();
        assert_eq!((figures.active, figures.idle, figures.failed), (0, 0, 1));
        assert_eq!(pool.limit().open(), 0);
    };
    LocalSet::new().run_until(test).await;
}
