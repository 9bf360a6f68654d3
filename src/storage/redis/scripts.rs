//! The scripts that run in the server, each atomic there.
//!
//! A script is called by its hash; a server that does not know it (it was restarted, or is the replica
//! that took over) is sent the text.

use redis::Cmd;

/// A part that other scripts begin with.
const RAISE: &str = include_str!("lua/raise.lua");

/// A script and its name in the server.
#[derive(Debug)]
pub(super) struct Script {
    text: String,
    /// Hex digits, as the server gave them.
    hash: String,
}

impl Script {
    /// How the server is made to know it.
    pub fn load(text: &str) -> Cmd {
        let mut cmd = redis::cmd("SCRIPT");
        cmd.arg("LOAD").arg(text);
        cmd
    }

    /// A call by name with these keys; arguments may be added.
    pub fn call(&self, keys: &[&str]) -> Cmd {
        Self::with_keys("EVALSHA", &self.hash, keys)
    }

    /// The same call, with the text in place of the name.
    pub fn spelt_out(&self, call: &Cmd) -> Cmd {
        let mut cmd = redis::cmd("EVAL");
        cmd.arg(&self.text);
        for arg in call.args_iter().skip(2) {
            if let redis::Arg::Simple(bytes) = arg {
                cmd.arg(bytes);
            }
        }
        cmd
    }

    fn with_keys(command: &str, script: &str, keys: &[&str]) -> Cmd {
        let mut cmd = redis::cmd(command);
        cmd.arg(script).arg(keys.len()).arg(keys);
        cmd
    }
}

macro_rules! scripts {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:expr;)+) => {
        /// All scripts.
        #[derive(Debug)]
        pub(super) struct Scripts {
            $($(#[doc = $doc])+ pub $name: Script,)+
        }

        impl Scripts {
            /// The texts, in the order in which [`new`](Self::new) wants their hashes.
            pub fn texts() -> Vec<String> {
                vec![$($text,)+]
            }

            /// None if there is not one hash for each text.
            pub fn new(hashes: Vec<String>) -> Option<Self> {
                let mut scripts = Self::texts().into_iter().zip(hashes);
                Some(Self {
                    $($name: scripts.next().map(|(text, hash)| Script { text, hash })?,)+
                })
            }
        }
    };
}

scripts! {
    /// Decides an id for a commit.
    commit = include_str!("lua/commit.lua").to_owned();
    /// Decides an id otherwise.
    settle = include_str!("lua/settle.lua").to_owned();
    /// Raises heads.
    heads = [RAISE, include_str!("lua/heads.lua")].concat();
    /// Reads a page of the log.
    page = include_str!("lua/page.lua").to_owned();
    /// Forgets the record of a commit.
    forget = include_str!("lua/forget.lua").to_owned();
}
