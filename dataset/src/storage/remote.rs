//! Remote stores: buckets of S3, Google Cloud and Azure, and web servers. Credentials and endpoints come only from the
//! environment; a URL only names bucket and key.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, Checksum};
use object_store::azure::MicrosoftAzureBuilder;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
};
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::http::HttpBuilder;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};

use super::guard::{GuardedConnector, check_host};
use super::location::{BucketPlace, Cloud};
use crate::environment::{Variables, env_flag, settings, variable, variables};
use crate::error::DatasetError;

/// Limits of retries: half the time after which a silent worker loses its lease.
const RETRIES_MAX: usize = 5;
const RETRY_TIMEOUT: Duration = Duration::from_secs(30);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Timeout of a request with its body: enough for 8 MiB at 2 Mbit/s.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(40);

/// Opens a bucket, with one client per bucket and process.
///
/// # Errors
/// The environment has an invalid setting, or lacks a required one.
pub(crate) fn bucket_store(place: &BucketPlace) -> Result<Arc<dyn ObjectStore>, DatasetError> {
    let url = place.bucket_url();
    let mut stores = stores();
    if let Some(store) = stores.get(&url) {
        return Ok(Arc::clone(store));
    }
    check_endpoints(&url, place.cloud, variables())?;
    install_tls();
    let built: object_store::Result<Arc<dyn ObjectStore>> = match place.cloud {
        Cloud::S3 => {
            let builder = settings(variables(), "AWS_")
                .fold(AmazonS3Builder::new(), |builder, (key, value)| builder.with_config(key, value));
            s3(builder, &place.bucket, env_flag("AWS_ALLOW_HTTP"))
        }
        Cloud::Gcs => gcs(&place.bucket),
        Cloud::Azure => azure(&place.bucket),
    };
    let store = built.map_err(|error| DatasetError::from_store(url.as_str(), error))?;
    stores.insert(url, Arc::clone(&store));
    Ok(store)
}

/// Refuses endpoints that are no URLs, on which the clients of clouds panic.
fn check_endpoints(url: &str, cloud: Cloud, set: &Variables) -> Result<(), DatasetError> {
    let prefix = match cloud {
        Cloud::S3 => "AWS_",
        Cloud::Gcs => "GOOGLE_",
        Cloud::Azure => "AZURE_",
    };
    let endpoints =
        set.iter().filter(|(name, value)| name.starts_with(prefix) && name.contains("ENDPOINT") && !value.is_empty());
    for (name, value) in endpoints {
        let is_url = url::Url::parse(value).is_ok_and(|url| {
            matches!(url.scheme(), "http" | "https") && url.host_str().is_some_and(|host| !host.is_empty())
        });
        if !is_url {
            let problem =
                format!("the variable {name} is not the URL of a server, as in https://storage.example.org:9000");
            return Err(DatasetError::bad_input(url, problem));
        }
    }
    Ok(())
}

/// The opened buckets by URL.
type Stores = HashMap<String, Arc<dyn ObjectStore>>;

fn stores() -> MutexGuard<'static, Stores> {
    static STORES: OnceLock<Mutex<Stores>> = OnceLock::new();
    STORES.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner)
}

/// Forgets the opened buckets: their credentials and endpoints may be others now.
pub(crate) fn forget_buckets() {
    stores().clear();
}

/// Registers a bucket with other settings than the environment's, under its own URL.
#[cfg(test)]
pub(super) fn register_s3(builder: AmazonS3Builder, bucket: &str, url: &str) {
    install_tls();
    stores().insert(url.to_owned(), s3(builder, bucket, true).unwrap());
}

/// Opens the store of one web source, which is its root.
///
/// # Errors
/// The host is not on the public internet.
pub(crate) fn web_store(url: &url::Url) -> Result<Arc<dyn ObjectStore>, DatasetError> {
    check_host(url)?;
    install_tls();
    let options = ClientOptions::new().with_allow_http(url.scheme() == "http");
    let store = HttpBuilder::new()
        .with_url(url.as_str())
        .with_client_options(options)
        .with_retry(retry())
        .with_http_connector(GuardedConnector)
        .build()
        .map_err(|error| DatasetError::from_store(url.as_str(), error))?;
    Ok(Arc::new(store))
}

/// Installs ring as the crypto provider of TLS, unless the process has one.
pub(super) fn install_tls() {
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| {
        // An error means that there already is a provider.
        drop(rustls::crypto::ring::default_provider().install_default());
    });
}

fn retry() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig { max_backoff: BACKOFF_MAX, ..BackoffConfig::default() },
        max_retries: RETRIES_MAX,
        retry_timeout: RETRY_TIMEOUT,
    }
}

fn s3(mut builder: AmazonS3Builder, bucket: &str, allow_http: bool) -> object_store::Result<Arc<dyn ObjectStore>> {
    let has_endpoint = builder.get_config_value(&AmazonS3ConfigKey::Endpoint).is_some()
        || builder.get_config_value(&AmazonS3ConfigKey::S3Endpoint).is_some();
    if builder.get_config_value(&AmazonS3ConfigKey::Checksum).is_none() && !has_endpoint {
        // Amazon stores the checksum with the object. Other stores may ignore the header; the signature covers the
        // same hash.
        builder = builder.with_checksum_algorithm(Checksum::SHA256);
    }
    let store = builder
        .with_bucket_name(bucket)
        .with_retry(retry())
        .with_client_options(options(allow_http))
        .with_http_connector(CreateOnly)
        .build()?;
    Ok(Arc::new(store))
}

fn gcs(bucket: &str) -> object_store::Result<Arc<dyn ObjectStore>> {
    let mut builder = settings(variables(), "GOOGLE_")
        .fold(GoogleCloudStorageBuilder::new(), |builder, (key, value)| builder.with_config(key, value));
    if let Some(path) = variable("SERVICE_ACCOUNT") {
        builder = builder.with_service_account_path(path);
    }
    let store = builder
        .with_bucket_name(bucket)
        .with_retry(retry())
        .with_client_options(options(env_flag("GOOGLE_ALLOW_HTTP")))
        .build()?;
    Ok(Arc::new(store))
}

fn azure(container: &str) -> object_store::Result<Arc<dyn ObjectStore>> {
    let mut builder = settings(variables(), "AZURE_")
        .fold(MicrosoftAzureBuilder::new(), |builder, (key, value)| builder.with_config(key, value));
    if let Some(endpoint) = variable("IDENTITY_ENDPOINT") {
        builder = builder.with_msi_endpoint(endpoint);
    }
    let store = builder
        .with_container_name(container)
        .with_retry(retry())
        .with_client_options(options(env_flag("AZURE_ALLOW_HTTP")))
        .build()?;
    Ok(Arc::new(store))
}

fn options(allow_http: bool) -> ClientOptions {
    ClientOptions::new()
        .with_allow_http(allow_http)
        .with_connect_timeout(CONNECT_TIMEOUT)
        .with_timeout(REQUEST_TIMEOUT)
        .with_read_timeout(REQUEST_TIMEOUT)
}

/// Makes the completion of a multipart upload create-only (`If-None-Match: *`), so that S3 refuses the second writer,
/// which the store's interface does not support.
#[derive(Debug)]
struct CreateOnly;

impl HttpConnector for CreateOnly {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(CreateOnlyService(ReqwestConnector::default().connect(options)?)))
    }
}

#[derive(Debug)]
struct CreateOnlyService(HttpClient);

#[async_trait]
impl HttpService for CreateOnlyService {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let completes = request.method().as_str() == "POST"
            && request.uri().query().is_some_and(|query| query.split('&').any(|pair| pair.starts_with("uploadId=")));
        if completes {
            // Only host and x-amz-* headers need a signature.
            let any = "*".parse().expect("an asterisk is a header value");
            request.headers_mut().insert("if-none-match", any);
        }
        self.0.execute(request).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_that_are_no_urls_are_refused_by_their_variable() {
        let check = |name: &str, value: &str| {
            check_endpoints("s3://b", Cloud::S3, &[(name.to_owned(), value.to_owned())].into())
                .map_err(|error| error.to_string())
        };
        for value in ["127.0.0.1:9000", "localhost", "http://", "ftp://host", "localhost:9000"] {
            let refused = check("AWS_ENDPOINT_URL", value).unwrap_err();
            assert!(refused.contains("AWS_ENDPOINT_URL") && !refused.contains(value), "{refused}");
        }
        assert_eq!(check("AWS_ENDPOINT_URL", "http://127.0.0.1:9000"), Ok(()));
        assert_eq!(check("AWS_ENDPOINT_URL", ""), Ok(()), "as if it were not set");
        assert_eq!(check("AZURE_STORAGE_ENDPOINT", "x"), Ok(()), "of another cloud");
    }
}
