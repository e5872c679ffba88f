//! TLS for control connections, by rustls, in the form that tokio-postgres wants.

use crate::endpoint::{Address, Encryption, Endpoint};
use crate::wire::server_end_point;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_rustls::client;

/// How a control connection is encrypted. Give it to `tokio_postgres::Config::connect` or to deadpool's manager, with
/// the mode of [`ControlTls::mode`].
#[derive(Clone, Debug)]
pub struct ControlTls {
    encryption: Encryption,
    name: Option<String>,
}

impl ControlTls {
    /// As the endpoint says.
    pub fn new(endpoint: &Endpoint) -> Self {
        let encryption = match &endpoint.address {
            Address::Tcp(..) => endpoint.encryption.clone(),
            // Unix sockets carry no TLS, as with libpq.
            Address::Unix(_) => Encryption::Disable,
        };
        ControlTls {
            encryption,
            name: endpoint.tls_name.clone(),
        }
    }

    /// What to tell the configuration of the connection. Whether the certificate is checked is in the TLS configuration.
    pub fn mode(&self) -> SslMode {
        match &self.encryption {
            Encryption::Disable => SslMode::Disable,
            Encryption::Prefer(_) => SslMode::Prefer,
            Encryption::Require(_) => SslMode::Require,
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> MakeTlsConnect<S> for ControlTls {
    type Stream = Stream<S>;
    type TlsConnect = Handshake;
    type Error = io::Error;

    fn make_tls_connect(&mut self, host: &str) -> io::Result<Handshake> {
        let config = match &self.encryption {
            Encryption::Disable => None,
            Encryption::Prefer(config) | Encryption::Require(config) => Some(Arc::clone(config)),
        };
        // Without TLS this is made all the same, and never used.
        let name = self.name.as_deref().unwrap_or(host).to_owned();
        Ok(Handshake { config, name })
    }
}

/// A handshake to come.
#[derive(Debug)]
pub struct Handshake {
    config: Option<Arc<ClientConfig>>,
    name: String,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> TlsConnect<S> for Handshake {
    type Stream = Stream<S>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream<S>>> + Send>>;

    fn connect(self, socket: S) -> Self::Future {
        Box::pin(async move {
            let config = self.config.ok_or(io::ErrorKind::Unsupported)?;
            let name = ServerName::try_from(self.name).map_err(io::Error::other)?;
            let connector = tokio_rustls::TlsConnector::from(config);
            connector.connect(name, socket).await.map(Stream)
        })
    }
}

/// A socket under TLS.
#[derive(Debug)]
pub struct Stream<S>(client::TlsStream<S>);

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream for Stream<S> {
    fn channel_binding(&self) -> ChannelBinding {
        let (_, session) = self.0.get_ref();
        let certificate = session.peer_certificates().and_then(|chain| chain.first());
        match certificate.and_then(server_end_point) {
            Some(hash) => ChannelBinding::tls_server_end_point(hash),
            None => ChannelBinding::none(),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Stream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
