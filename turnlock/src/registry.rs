//! The one table of backends: the URL schemes, the Cargo feature of each, and how each is opened.
//!
//! [`connect`](crate::connect), its documentation and its error texts are made from this table, and
//! so is the help of the `turnlock` command. A new backend is one more row.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use lock_core::{Backend, Error, ErrorKind};

type Open = fn(&str) -> Result<Arc<dyn Backend>, Error>;
type Tidying = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;
type Tidy = fn(String) -> Tidying;

/// A scheme of the URLs that [`connect`](crate::connect) takes.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct Scheme {
    /// What stands before the colon, such as `etcd+unix`.
    pub name: &'static str,
    /// The form of the whole URL, such as `etcd+unix:///SOCKET`.
    pub form: &'static str,
    /// What such a URL names, in a few words.
    pub about: &'static str,
    /// The Cargo feature of this crate that compiles the backend in.
    pub feature: &'static str,
    /// Whether the coordinator lives in the process that connects, so that no other process reaches
    /// it by this URL.
    pub in_process: bool,
    /// `None` if the feature is off.
    open: Option<Open>,
    /// `None` if the feature is off, or closed sessions leave nothing behind.
    tidy: Option<Tidy>,
}

impl Scheme {
    /// Returns the scheme of this URL, or `None` if no backend has it.
    ///
    /// ```
    /// use turnlock::registry::Scheme;
    ///
    /// let scheme = Scheme::of("etcds://etcd-1,etcd-2").expect("in the table");
    /// assert_eq!((scheme.name, scheme.feature), ("etcds", "etcd"));
    /// assert!(Scheme::of("redis://cache").is_none());
    /// ```
    pub fn of(url: &str) -> Option<&'static Scheme> {
        let (name, _) = url.split_once(':')?;
        SCHEMES.iter().find(|scheme| scheme.name == name)
    }

    /// Returns whether the feature of this scheme is on in this build.
    pub fn is_compiled_in(&self) -> bool {
        self.open.is_some()
    }
}

impl fmt::Debug for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scheme")
            .field("name", &self.name)
            .field("form", &self.form)
            .field("feature", &self.feature)
            .field("in_process", &self.in_process)
            .field("is_compiled_in", &self.is_compiled_in())
            .finish_non_exhaustive()
    }
}

/// Hands the rows to another macro: the table and the documentation are made of the same text.
macro_rules! rows {
    ($make:ident) => {
        $make! {
            "embedded", "embedded:///DIR", EMBEDDED,
                "the coordinator in this process, durable in the folder DIR, which no other \
process can open meanwhile";
            "embedded", "embedded:memory", EMBEDDED,
                "the same in memory, for tests and for the tasks of one process";
            "etcd", "etcd://HOST[:PORT][,HOST[:PORT]...]", ETCD,
                "an etcd cluster, or a `turnlock serve`";
            "etcds", "etcds://HOST[:PORT][,HOST[:PORT]...]", ETCD,
                "an etcd cluster, over TLS";
            "etcd+unix", "etcd+unix:///SOCKET", ETCD,
                "a `turnlock serve` on this machine";
            "zk", "zk://HOST[:PORT][,HOST[:PORT]...][/CHROOT]", ZK,
                "a ZooKeeper ensemble";
            "zks", "zks://HOST[:PORT][,HOST[:PORT]...][/CHROOT]?ca=FILE", ZK,
                "a ZooKeeper ensemble, over TLS";
        }
    };
}

macro_rules! table {
    ($($name:literal, $form:literal, $backend:ident, $about:literal;)*) => {
        &[$(Scheme {
            name: $name,
            form: $form,
            about: $about,
            feature: $backend.feature,
            in_process: $backend.in_process,
            open: $backend.open,
            tidy: $backend.tidy,
        }),*]
    };
}

macro_rules! list {
    ($($name:literal, $form:literal, $backend:ident, $about:literal;)*) => {
        concat!($("- `", $form, "`: ", $about, ".\n"),*)
    };
}

#[doc = concat!("The URLs that [`connect`](crate::connect) takes, in the order of its \
                 documentation:\n\n", rows!(list))]
///
/// ```
/// for scheme in turnlock::registry::SCHEMES {
///     println!("{:<45} {} (feature {})", scheme.form, scheme.about, scheme.feature);
/// }
/// ```
pub static SCHEMES: &[Scheme] = rows!(table);

/// What the schemes of one backend have in common.
struct Kind {
    feature: &'static str,
    in_process: bool,
    open: Option<Open>,
    tidy: Option<Tidy>,
}

#[cfg(feature = "embedded")]
const EMBEDDED_OPEN: Option<Open> = Some(backend_embedded::from_url);
#[cfg(not(feature = "embedded"))]
const EMBEDDED_OPEN: Option<Open> = None;

const EMBEDDED: Kind = Kind {
    feature: "embedded",
    in_process: true,
    open: EMBEDDED_OPEN,
    tidy: None,
};

#[cfg(feature = "etcd")]
const ETCD_OPEN: Option<Open> = Some(|url| {
    let config = backend_etcd::Config::from_url(url)?;
    Ok(backend_etcd::EtcdBackend::new(config)?)
});
#[cfg(not(feature = "etcd"))]
const ETCD_OPEN: Option<Open> = None;

const ETCD: Kind = Kind {
    feature: "etcd",
    in_process: false,
    open: ETCD_OPEN,
    tidy: None,
};

#[cfg(feature = "zk")]
const ZK_OPEN: (Option<Open>, Option<Tidy>) = (
    Some(|url| {
        let config = backend_zk::Config::from_url(url)?;
        Ok(backend_zk::ZkBackend::new(config)?)
    }),
    Some(|url| {
        Box::pin(async move {
            let config = backend_zk::Config::from_url(&url)?;
            backend_zk::ZkBackend::new(config)?.tidy().await
        })
    }),
);
#[cfg(not(feature = "zk"))]
const ZK_OPEN: (Option<Open>, Option<Tidy>) = (None, None);

const ZK: Kind = Kind {
    feature: "zk",
    in_process: false,
    open: ZK_OPEN.0,
    tidy: ZK_OPEN.1,
};

/// Returns the backend of this URL.
pub(crate) fn open(url: &str) -> Result<Arc<dyn Backend>, Error> {
    match find_compiled_in(url)?.open {
        Some(open) => open(url),
        None => Err(not_compiled_in(url)),
    }
}

/// Removes what closed sessions leave in the namespace that this URL names: on ZooKeeper the nodes
/// that hold no other node. Elsewhere closed sessions leave nothing, and this does nothing.
///
/// The namespace must be one that nobody uses, such as that of a test run that has ended.
///
/// # Errors
/// [`ErrorKind::Configuration`] as for [`connect`](crate::connect);
/// [`ErrorKind::Unreachable`] if the coordinator does not answer.
///
/// # Cancel safety
/// Some nodes may be left. It may be called again.
pub async fn tidy(url: &str) -> Result<(), Error> {
    match find_compiled_in(url)?.tidy {
        Some(tidy) => tidy(url.to_owned()).await,
        None => Ok(()),
    }
}

/// Returns the scheme of this URL, if this build can open it.
fn find_compiled_in(url: &str) -> Result<&'static Scheme, Error> {
    let scheme = Scheme::of(url).ok_or_else(|| match url.split_once(':') {
        Some((scheme, _)) => malformed_url(url, &format!("the scheme {scheme:?} is not known")),
        None => malformed_url(url, "it has no scheme"),
    })?;
    match scheme.is_compiled_in() {
        true => Ok(scheme),
        false => Err(not_compiled_in(url)),
    }
}

fn malformed_url(url: &str, why: &str) -> Error {
    let url = without_password(url);
    let forms: Vec<_> = SCHEMES.iter().map(|scheme| scheme.form).collect();
    let forms = forms.join(", ");
    let text = format!("the backend URL {url:?} is not valid: {why}; give one of {forms}");
    Error::new(ErrorKind::Configuration, text)
}

fn not_compiled_in(url: &str) -> Error {
    let feature = Scheme::of(url).map_or("", |scheme| scheme.feature);
    let url = without_password(url);
    let text =
        format!("the backend of {url:?} was not compiled in: enable the Cargo feature `{feature}`");
    Error::new(ErrorKind::Configuration, text)
}

/// Returns the URL without what stands before an `@`, which may be a password.
fn without_password(url: &str) -> String {
    let scheme = url.find("://").map_or(0, |i| i + 3);
    match url.rfind('@') {
        Some(at) => format!("{}...{}", url.get(..scheme).unwrap_or(""), &url[at..]),
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_opens_the_schemes_of_its_features() {
        let on = [
            ("embedded", cfg!(feature = "embedded")),
            ("etcd", cfg!(feature = "etcd")),
            ("zk", cfg!(feature = "zk")),
        ];
        for scheme in SCHEMES {
            let (_, on) = on
                .iter()
                .find(|(name, _)| *name == scheme.feature)
                .expect("a feature");
            assert_eq!(scheme.is_compiled_in(), *on, "{scheme:?}");
            let url = scheme
                .form
                .replace("HOST[:PORT][,HOST[:PORT]...]", "localhost");
            let url = url.replace("[/CHROOT]", "/a");
            match (open(&url), on) {
                (Ok(_), true) => {}
                // ZooKeeper's client library has no certificates of its own, and there is no such
                // file.
                (Err(error), true) if scheme.form.ends_with("ca=FILE") => {
                    assert_eq!(error.kind(), ErrorKind::Configuration);
                    assert!(error.to_string().contains("FILE"), "{error}");
                }
                (Err(error), false) => {
                    let feature = format!("`{}`", scheme.feature);
                    assert_eq!(error.kind(), ErrorKind::Configuration);
                    assert!(error.to_string().contains(&feature), "{error}");
                }
                (outcome, _) => panic!("{url}: {outcome:?}"),
            }
        }
    }

    #[test]
    fn bad_urls_name_the_input_and_the_remedy() {
        for url in ["", "nowhere", "redis://x"] {
            let error = open(url).expect_err(url);
            assert_eq!(error.kind(), ErrorKind::Configuration);
            let text = error.to_string();
            assert!(text.contains(&format!("{url:?}")), "{text}");
            assert!(text.contains("embedded:///DIR"), "{text}");
        }
    }

    #[cfg(feature = "embedded")]
    #[test]
    fn bad_folders_name_the_input_and_the_remedy() {
        for url in ["embedded:relative", "embedded://host/x"] {
            let error = open(url).expect_err(url);
            assert_eq!(error.kind(), ErrorKind::Configuration);
            let text = error.to_string();
            assert!(text.contains(&format!("{url:?}")), "{text}");
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        for url in ["u:secret@h", "redis://u:secret@h"] {
            let text = open(url).expect_err(url).to_string();
            assert!(!text.contains("secret") && text.contains("@h"), "{text}");
        }
    }
}
