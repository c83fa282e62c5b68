//! Declared identities: `identities` of a topology, `dev --identities FILE`, and `keyrum identity`.
//!
//! Everything goes through the admin listener of a node of the Region where identities are changed;
//! that Region's log tells the others.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use futures_util::future::join_all;
use keyrum_consensus::world::World;
use keyrum_server::{IdentitiesForm, WrongIdentities};
use keyrum_types::Region;
use serde_json::{Value, json};

use crate::Failure;
use crate::admin::Admin;
use crate::cli::{Identity, IdentityPlace};
use crate::run::{self, RunFile};
use crate::topology::line_of;

/// A file of identities, checked as far as that goes without a cluster.
pub(crate) struct IdentitiesFile {
    file: PathBuf,
    form: IdentitiesForm,
}

/// Why identities cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IdentitiesError {
    /// The file cannot be read.
    #[error("cannot read the identities file {} ({cause}); nothing was changed", file.display())]
    Unreadable {
        /// Which file.
        file: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// It is not what it should be.
    #[error("the identities file {}, line {line}: {what}; nothing was changed: correct the file (cluster-config/identities.toml explains every field)", file.display())]
    Malformed {
        /// Which file.
        file: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong there, without any secret.
        what: String,
    },
    /// It says what cannot be.
    #[error("the identities file {}: {cause}; nothing was changed: correct the file", file.display())]
    Wrong {
        /// Which file.
        file: PathBuf,
        /// What.
        cause: WrongIdentities,
    },
    /// Not all of it could be declared.
    #[error("the identities file {}: {cause}; what was declared before that stays: correct the file if need be, and start again", file.display())]
    NotDeclared {
        /// Which file.
        file: PathBuf,
        /// Why.
        cause: String,
    },
    /// There is nobody to ask.
    #[error(
        "no node of {region} answers, where identities are changed; `keyrum cluster status` shows them"
    )]
    NobodyAnswers {
        /// Which Region.
        region: Region,
    },
    /// Nobody at all.
    #[error("no node of the cluster answers; `keyrum cluster status` shows them")]
    NoNodeAnswers,
    /// There is none of that name.
    #[error("there is no {0}; `keyrum identity list` shows all")]
    NoSuch(String),
}

impl IdentitiesFile {
    /// Reads and checks a file.
    pub(crate) fn read(file: &Path) -> Result<Self, IdentitiesError> {
        let text = std::fs::read_to_string(file).map_err(|cause| IdentitiesError::Unreadable {
            file: file.to_owned(),
            cause,
        })?;
        let form = parse(file, &text)?;
        form.plan().map_err(|cause| IdentitiesError::Wrong {
            file: file.to_owned(),
            cause,
        })?;
        Ok(Self {
            file: file.to_owned(),
            form,
        })
    }

    /// Declares what is absent, through the first of these nodes that answers; what to tell about it.
    pub(crate) async fn declare(&self, home: &[Admin]) -> Result<String, IdentitiesError> {
        let mut failure = "no node answers".to_owned();
        for node in home {
            if let Err(error) = node.status().await {
                failure = error.to_string();
                continue;
            }
            let ask = json!({ "do": "apply", "identities": self.form, "replace": false });
            let applied = node.change_identities(ask).await;
            let applied = applied.map_err(|error| IdentitiesError::NotDeclared {
                file: self.file.clone(),
                cause: error.to_string(),
            })?;
            return Ok(declared(&self.file, &applied));
        }
        Err(IdentitiesError::NotDeclared {
            file: self.file.clone(),
            cause: failure,
        })
    }
}

fn parse(file: &Path, text: &str) -> Result<IdentitiesForm, IdentitiesError> {
    toml::from_str(text).map_err(|error| IdentitiesError::Malformed {
        file: file.to_owned(),
        line: line_of(text, error.span().map_or(0, |span| span.start)),
        // Its first line alone: what follows may show the text, and so a secret.
        what: error
            .message()
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned(),
    })
}

fn texts(value: &Value) -> Vec<&str> {
    let items = value.as_array().into_iter().flatten();
    items.filter_map(Value::as_str).collect()
}

/// What a start says of its identities.
fn declared(file: &Path, applied: &Value) -> String {
    let count = |name: &str| applied[name].as_array().map_or(0, Vec::len);
    let mut text = format!(
        "keyrum: of the identities of {}, {} were made and {} were there\n",
        file.display(),
        count("made"),
        applied["same"].as_u64().unwrap_or(0) + count("differs") as u64,
    );
    text += &remarks(applied);
    text
}

/// What came of an application, beside what was made.
fn remarks(applied: &Value) -> String {
    let mut text = String::new();
    for differs in applied["differs"].as_array().into_iter().flatten() {
        let name = differs["name"].as_str().unwrap_or_default();
        let what = texts(&differs["in"]).join(", ");
        text += &format!(
            "  {name} is otherwise than in the file ({what}) and stays so; `keyrum identity apply` \
             takes the file's\n"
        );
    }
    for name in texts(&applied["deleted"]) {
        text +=
            &format!("  {name} was deleted and stays so; `keyrum identity apply` makes it again\n");
    }
    for key in applied["access_keys"].as_array().into_iter().flatten() {
        let part = |name: &str| key[name].as_str().unwrap_or_default();
        text += &format!(
            "  access key {} signs with {} (shown this once)\n",
            part("id"),
            part("secret")
        );
    }
    text + &spread(applied)
}

/// Which Regions have a change.
fn spread(changed: &Value) -> String {
    let (has, waits) = (texts(&changed["has"]), texts(&changed["waits"]));
    match (&has[..], &waits[..]) {
        ([], _) => {
            "  which Regions have it is not known; every one takes it when it can\n".to_owned()
        }
        (_, []) => format!("  every Region has it: {}\n", has.join(", ")),
        _ => format!(
            "  {} has it; {} not yet, and will when it can be reached: nothing is lost\n",
            has.join(", "),
            waits.join(", ")
        ),
    }
}

/// Carries out `keyrum identity ...`.
pub(crate) async fn run(verb: Identity) -> Result<ExitCode, Failure> {
    let (place, ask) = match verb {
        Identity::List { account, place } => {
            let all = identities(&place).await?;
            let accounts = all["accounts"].as_array().cloned().unwrap_or_default();
            let wanted = |shown: &Value| account.is_none_or(|id| shown["id"] == id.to_string());
            let accounts: Vec<_> = accounts.into_iter().filter(wanted).collect();
            match place.json {
                true => run::print(&format!("{}\n", serde_json::to_string_pretty(&accounts)?))?,
                false => run::print(&table(&accounts))?,
            }
            return Ok(ExitCode::SUCCESS);
        }
        Identity::Show { name, place } => {
            let all = identities(&place).await?;
            let shown = find(&all, &name).ok_or(IdentitiesError::NoSuch(name))?;
            run::print(&format!("{}\n", serde_json::to_string_pretty(&shown)?))?;
            return Ok(ExitCode::SUCCESS);
        }
        Identity::Apply { file, place } => {
            let read = IdentitiesFile::read(&file)?;
            let ask = json!({ "do": "apply", "identities": read.form, "replace": true });
            (place, ask)
        }
        Identity::Delete { name, place } => (place, json!({ "do": "delete", "name": name })),
        Identity::CreateAccessKey { name, place } => {
            (place, json!({ "do": "create-access-key", "name": name }))
        }
        Identity::EnableAccessKey { id, place } => (
            place,
            json!({ "do": "set-access-key", "id": id, "active": true }),
        ),
        Identity::DisableAccessKey { id, place } => (
            place,
            json!({ "do": "set-access-key", "id": id, "active": false }),
        ),
        Identity::DeleteAccessKey { id, place } => {
            (place, json!({ "do": "delete-access-key", "id": id }))
        }
        Identity::PutPolicy {
            name,
            policy,
            file,
            place,
        } => {
            let document = std::fs::read_to_string(&file)
                .map_err(|cause| format!("cannot read the policy {}: {cause}", file.display()))?;
            let ask = json!({
                "do": "put-policy",
                "name": name,
                "policy": policy,
                "document": document,
            });
            (place, ask)
        }
        Identity::DeletePolicy {
            name,
            policy,
            place,
        } => (
            place,
            json!({ "do": "delete-policy", "name": name, "policy": policy }),
        ),
    };
    let changed = change(&place, ask).await?;
    match place.json {
        true => run::print(&format!("{}\n", serde_json::to_string_pretty(&changed)?))?,
        false => run::print(&words(&changed))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// What came of a change.
fn words(changed: &Value) -> String {
    let mut text = String::new();
    for (list, verb) in [("made", "made"), ("replaced", "replaced")] {
        for name in texts(&changed[list]) {
            text += &format!("{verb} {name}\n");
        }
    }
    if let Some(same) = changed["same"].as_u64() {
        text += &format!("{same} were as in the file\n");
    }
    let key = &changed["access_key"];
    if let (Some(id), Some(secret)) = (key["id"].as_str(), key["secret"].as_str()) {
        text +=
            &format!("access key  {id}\nsecret      {secret}\nThe secret is shown this once.\n");
    }
    if text.is_empty() {
        text = "done\n".to_owned();
    }
    text + &remarks(changed)
}

/// All identities, as the Region knows them that changes them; as another does while that one does not
/// answer.
async fn identities(place: &IdentityPlace) -> Result<Value, Failure> {
    let world = World::real();
    let running = RunFile::find(&place.data)?;
    let (_, all) = home(&world, &running).await?;
    Ok(all)
}

/// The Region where identities are changed, and what some node knows of them: one of that Region if
/// one answers.
async fn home(world: &World, running: &RunFile) -> Result<(Region, Value), Failure> {
    let mut known = None;
    let mut refused = None;
    let nodes = running.regions.iter().flat_map(|(region, nodes)| {
        let nodes = nodes.nodes.iter();
        nodes.map(move |node| (region, Admin::of(world, node)))
    });
    // All at once: a Region whose nodes are frozen is not waited for, one after the other.
    let answering = join_all(nodes.map(async |(region, admin)| {
        let admin = admin.ok()?;
        admin.status().await.ok()?;
        Some((region, admin))
    }));
    for (region, admin) in answering.await.into_iter().flatten() {
        if matches!(&known, Some((_, _, from)) if *from == region) {
            continue;
        }
        match admin.identities().await {
            Ok(all) => {
                let home = all["home"].as_str().unwrap_or_default().parse();
                let home: Region = home.unwrap_or_else(|_| region.clone());
                if home == *region {
                    return Ok((home, all));
                }
                known = Some((home, all, region));
            }
            Err(error) => refused = Some(error),
        }
    }
    let known = known.map(|(home, all, _)| (home, all));
    match (known, refused) {
        (Some(known), _) => Ok(known),
        (None, Some(error)) => Err(error.into()),
        (None, None) => Err(IdentitiesError::NoNodeAnswers.into()),
    }
}

/// Asks the first node of that Region that answers at all: it passes the change on to its leader.
async fn change(place: &IdentityPlace, ask: Value) -> Result<Value, Failure> {
    let world = World::real();
    let running = RunFile::find(&place.data)?;
    let (region, _) = home(&world, &running).await?;
    let nodes = running.regions.get(&region).map(|nodes| &nodes.nodes);
    for node in nodes.into_iter().flatten() {
        let admin = Admin::of(&world, node)?;
        if admin.status().await.is_ok() {
            return Ok(admin.change_identities(ask).await?);
        }
    }
    Err(IdentitiesError::NobodyAnswers { region }.into())
}

/// The identity of that name: an account's number, an ARN, or `ACCOUNT:user/NAME`.
fn find(all: &Value, name: &str) -> Option<Value> {
    for account in all["accounts"].as_array()? {
        let id = account["id"].as_str()?;
        for (list, kind) in [("users", "user"), ("roles", "role")] {
            for one in account[list].as_array()? {
                let short = format!("{id}:{kind}/{}", one["name"].as_str()?);
                if short == name || one["arn"] == name {
                    return Some(one.clone());
                }
            }
        }
        if name == id
            || name
                .strip_suffix(":root")
                .is_some_and(|arn| arn.ends_with(id))
        {
            return Some(account.clone());
        }
    }
    None
}

fn table(accounts: &[Value]) -> String {
    let mut text = String::new();
    let keys = |of: &Value| {
        let keys = of["access_keys"].as_array().into_iter().flatten();
        let key = |key: &Value| {
            let id = key["id"].as_str().unwrap_or_default();
            match key["active"].as_bool() {
                Some(false) => format!("  {id} (disabled)"),
                _ => format!("  {id}"),
            }
        };
        keys.map(key).collect::<String>()
    };
    for account in accounts {
        let alias = account["alias"].as_str();
        let alias = alias.map_or_else(String::new, |alias| format!("  {alias}"));
        let id = account["id"].as_str().unwrap_or_default();
        text += &format!("{id}{alias}{}\n", keys(account));
        for list in ["users", "roles"] {
            for one in account[list].as_array().into_iter().flatten() {
                let arn = one["arn"].as_str().unwrap_or_default();
                let id = one["id"].as_str().unwrap_or_default();
                text += &format!("  {arn}  {id}{}\n", keys(one));
            }
        }
    }
    match text.is_empty() {
        true => "no account is declared\n".to_owned(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches a documented example that does not hold, and one that leaves a field unexplained.
    #[test]
    fn the_shipped_example_is_a_file_of_identities() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../cluster-config");
        let file = IdentitiesFile::read(&folder.join("identities.toml")).unwrap();
        let plan = file.form.plan().unwrap();
        assert_eq!(plan.len(), 2);
        let users = plan.iter().map(|account| account.users.len());
        assert_eq!(users.sum::<usize>(), 2);
        let text = std::fs::read_to_string(folder.join("identities.toml")).unwrap();
        for field in [
            "alias",
            "access_keys",
            "active",
            "path",
            "tags",
            "policies",
            "boundary",
            "trust",
            "max_session_seconds",
        ] {
            assert!(text.contains(field), "{field}");
        }
    }

    /// Catches an error that does not lead to the line that has to change, and one that shows a
    /// secret.
    #[test]
    fn errors_name_the_line_and_no_secret() {
        let complaint = |text: &str| {
            let parsed = parse(Path::new("x.toml"), text);
            parsed.err().expect("it is wrong").to_string()
        };
        let head = "[[account]]\nid = \"111122223333\"\n";
        let text = complaint(&format!(
            "{head}access_keys = [{{ id = \"A\", secrets = \"hidden\" }}]\n"
        ));
        assert!(text.contains("line 3: unknown field `secrets`"), "{text}");
        assert!(!text.contains("hidden"), "{text}");
        let text = complaint(&format!(
            "{head}access_keys = [{{ id = \"A\", secret = hidden }}]\n"
        ));
        assert!(
            text.contains("line 3") && !text.contains("hidden"),
            "{text}"
        );
        let text = complaint(&format!("{head}[[account.role]]\nname = \"r\"\n"));
        assert!(text.contains("missing field `trust`"), "{text}");
    }

    /// Catches a Region that does not have a change yet and is not named.
    #[test]
    fn what_waits_is_said() {
        let changed = json!({ "has": ["us-east-1"], "waits": ["eu-west-1"], "made": ["user a"] });
        assert_eq!(
            words(&changed),
            "made user a\n  us-east-1 has it; eu-west-1 not yet, and will when it can be reached: \
             nothing is lost\n"
        );
        let key = json!({ "has": ["r"], "waits": [], "access_key": { "id": "A", "secret": "s" } });
        assert!(words(&key).contains("secret      s\n"));
        assert!(words(&key).contains("every Region has it: r"));
    }
}
