//! The command line as people and scripts see it: help, errors, JSON, settings.

use crate::harness::corpora::{self, sentences};
use crate::harness::{Ran, TestEnv, model, run_words};

#[test]
fn every_command_that_help_names_has_help() {
    let env = TestEnv::new();
    let ran = env.encaje(["--help"]);
    ran.expect_code(0);
    let (_, commands) = ran.stdout.split_once("Commands:\n").unwrap();
    let (commands, _) = commands.split_once("\n\n").unwrap();
    // A command's explanation may go on in further lines, which are indented more.
    let is_name = |line: &&str| line.starts_with("  ") && !line.starts_with("   ");
    let commands: Vec<&str> =
        commands.lines().filter(is_name).filter_map(|line| line.split_whitespace().next()).collect();
    assert!(["run", "coordinator", "self-test"].iter().all(|name| commands.contains(name)), "{commands:?}");
    for command in commands.into_iter().filter(|command| *command != "help") {
        let help = env.encaje([command, "--help"]);
        help.expect_code(0);
        assert!(help.stdout.contains("Usage: encaje"), "{}", help.stdout);
    }
}

#[test]
fn the_options_of_run_are_grouped_and_have_variables() {
    let help = TestEnv::new().encaje(["run", "--help"]).stdout;
    for heading in ["Corpus:", "Model:", "Embedding:", "Output:", "Machine:"] {
        assert!(help.contains(heading), "{heading}");
    }
    for option in [
        "--text-column",
        "--id-column",
        "--keep",
        "--format",
        "--pooling",
        "--no-normalize",
        "--max-length",
        "--prompt",
        "--prefix",
        "--dtype",
        "--output-dtype",
        "--dimensions",
        "--revision",
        "--batch-tokens",
        "--shard-rows",
        "--on-bad-row",
        "--max-rejects",
        "--strict",
        "--json",
    ] {
        assert!(help.contains(option), "{option}");
    }
    assert!(help.contains("ENCAJE_BATCH_TOKENS"));
}

#[test]
fn usage_errors_exit_with_2_and_print_no_data() {
    let env = TestEnv::new();
    env.write("a.csv", "text\nhola\n");
    let cases: [&[&str]; 6] = [
        &["run"],
        &["run", "a.csv", "--out", "o"],
        &["run", "a.csv", "--model", "m", "--out", "o", "--pooling", "median"],
        &["run", "a.csv", "--model", "m", "--out", "o", "--max-rejects", "many"],
        &["run", "a.csv", "--model", "m", "--out", "o", "--no-such-option"],
        &["no-such-command"],
    ];
    for words in cases {
        let ran = env.encaje(words);
        ran.expect_code(2);
        assert_eq!(ran.stdout, "");
    }
}

#[test]
fn a_model_that_is_nowhere_is_explained() {
    let env = TestEnv::new();
    env.write("a.csv", "text\nhola\n");
    let ran = env.encaje(["run", "a.csv", "--model", "no/such/model", "--out", "o"]);
    ran.expect_code(2);
    ran.expect_said(&["`no/such/model`", "owner/name"]);
    let ran = env.encaje(["run", "a.csv", "--model", "owner/name", "--out", "o"]);
    ran.expect_code(1);
    ran.expect_said(&["owner/name", "not in the cache"]);
    assert_eq!(ran.stderr.matches("`owner/name`").count(), 1, "{}", ran.stderr);
    let ran = env.encaje(["run", "a.csv", "--model", "all-MiniLM-L6-v2", "--out", "o", "--offline"]);
    ran.expect_said(&["sentence-transformers/all-MiniLM-L6-v2", "--offline", "directory"]);
    env.write("empty/config.json", "{}");
    let ran = env.encaje(["run", "a.csv", "--model", "empty", "--out", "o"]);
    ran.expect_code(1);
    ran.expect_said(&["empty"]);
    assert!(!env.path("o").exists(), "nothing was begun");
}

#[test]
fn what_cannot_work_is_refused_before_anything_is_begun() {
    let env = TestEnv::new();
    env.write("a.csv", "text\nhola\n");
    for (more, said) in [
        (["--dtype", "f16"], "--dtype f16"),
        (["--device", "metal"], "`metal`"),
        (["--dimensions", "100000"], "--dimensions 100000"),
        (["--id-column", "nope"], "--id-column"),
        (["--keep", "nope"], "--keep"),
    ] {
        let ran = env.encaje(run_words("a.csv", "out", &more));
        assert!(matches!(ran.code, Some(1 | 2)), "{ran:?}");
        ran.expect_said(&[said]);
        assert!(!env.path("out").exists(), "{more:?} left something behind");
    }
    let ran = env.encaje(run_words("a.csv", "a.csv", &[]));
    ran.expect_code(2);
    ran.expect_said(&["`a.csv` is a file", ".parquet"]);
}

#[test]
fn an_error_is_printed_once() {
    let env = TestEnv::new();
    let ran = env.encaje(run_words("nothing.csv", "o", &[]));
    assert_eq!(ran.stderr.matches("nothing.csv").count(), 1, "{}", ran.stderr);
    assert!(ran.stderr.starts_with("error: "), "{}", ran.stderr);
}

#[test]
fn options_win_over_the_environment_and_the_environment_over_the_file() {
    let env = TestEnv::new();
    env.write("a.csv", "body,text,other\nhola,uno dos,tres\n");
    let model = model();
    let settings = format!(
        "model = {:?}\nquiet = true\nkeep = [\"body\", \"other\"]\n[run]\nout = \"from-file\"\ntext-column = \"body\"\n",
        model.display().to_string()
    );
    env.write("encaje.toml", settings);

    let ran = env.encaje(["run", "a.csv", "--json"]);
    ran.expect_code(0);
    assert_eq!((ran.json()["out"].as_str(), ran.stderr.as_str()), (Some("from-file"), ""));

    let mut command = env.command(["run", "a.csv", "--json"]);
    let output = command.env("ENCAJE_OUT", "from-env").env("ENCAJE_QUIET", "0").output().unwrap();
    let ran = crate::harness::Ran::of(output);
    assert_eq!(ran.json()["out"], "from-env");
    ran.expect_said(&["model: "]);

    let mut command = env.command(["run", "a.csv", "--json", "--out", "from-option"]);
    let ran = crate::harness::Ran::of(command.env("ENCAJE_OUT", "from-env").output().unwrap());
    assert_eq!(ran.json()["out"], "from-option");
}

#[test]
fn a_bad_variable_is_named() {
    let env = TestEnv::new();
    env.write("a.csv", "text\nhola\n");
    for (name, value, said) in [
        ("ENCAJE_POOLING", "foo", "possible values: auto, cls"),
        ("ENCAJE_THREADS", "many", "--threads"),
        ("ENCAJE_QUIET", "maybe", "--quiet"),
    ] {
        let ran = Ran::of(env.command(run_words("a.csv", "o", &[])).env(name, value).output().unwrap());
        ran.expect_code(2);
        ran.expect_said(&[&format!("error: `{name}`: invalid value '{value}'"), said]);
    }
    let typed = run_words("a.csv", "o", &["--pooling=bar"]);
    let ran = Ran::of(env.command(typed).env("ENCAJE_POOLING", "foo").output().unwrap());
    ran.expect_said(&["invalid value 'bar' for '--pooling"]);
    assert!(!ran.stderr.contains("ENCAJE_POOLING"), "{}", ran.stderr);
    let lacking = Ran::of(env.command(["run", "a.csv", "--out", "o"]).env("ENCAJE_MODLE", "m").output().unwrap());
    lacking.expect_code(2);
    lacking.expect_said(&["--model", "did you mean `ENCAJE_MODEL`?"]);
    let ran = Ran::of(env.command(run_words("a.csv", "o", &[])).env("ENCAJE_POLING", "cls").output().unwrap());
    ran.expect_code(0);
    ran.expect_said(&["warning: `ENCAJE_POLING`", "did you mean `ENCAJE_POOLING`?"]);
}

#[test]
fn what_is_no_job_id_is_called_so() {
    let env = TestEnv::new();
    for words in [["download", "cc", "--out", "o"], ["cancel", "cc", "--coordinator", "http://127.0.0.1:1"]] {
        let ran = env.encaje(words);
        ran.expect_code(2);
        ran.expect_said(&["'cc'", "it is no job id"]);
    }
}

#[test]
fn a_bad_settings_file_is_refused_by_key() {
    let env = TestEnv::new();
    env.write("a.csv", "text\nhola\n");
    for (settings, said) in [
        ("modle = \"m\"", "unknown key `modle`"),
        ("[run]\nverify = 1", "unknown key `run.verify`"),
        ("pooling = \"median\"", "median"),
        ("keep = ", "not valid TOML"),
    ] {
        env.write("encaje.toml", settings);
        let ran = env.encaje(run_words("a.csv", "o", &[]));
        ran.expect_code(2);
        ran.expect_said(&["encaje.toml", said]);
    }
    env.write("other.toml", "modle = \"m\"");
    std::fs::remove_file(env.path("encaje.toml")).unwrap();
    let ran = env.encaje(run_words("a.csv", "o", &["--config", "other.toml"]));
    ran.expect_code(2);
    ran.expect_said(&["other.toml"]);
    let ran = env.encaje(run_words("a.csv", "o", &["--config", "absent.toml"]));
    ran.expect_code(2);
    ran.expect_said(&["absent.toml"]);
}

#[test]
fn the_model_is_introduced_and_a_pooling_of_ones_own_is_noted() {
    let env = TestEnv::new();
    env.write("a.csv", "text\nhola\n");
    env.run_ok("a.csv", "a", &[]).expect_said(&["model: bert", "dimensions", "pooling"]);
    let quiet = env.run_ok("a.csv", "b", &["--quiet"]);
    assert_eq!(quiet.stderr, "");
    env.run_ok("a.csv", "c", &["--pooling", "max"]).expect_said(&["--pooling"]);
}

#[test]
fn status_and_list_tell_what_is_there() {
    let env = TestEnv::new();
    env.write("a.csv", corpora::csv(&sentences(12)));
    env.run_ok("a.csv", "outs/dir", &[]);
    env.run_ok("a.csv", "outs/one.parquet", &[]);
    env.write("outs/notes.txt", "mine");
    for out in ["outs/dir", "outs/one.parquet"] {
        let status = env.encaje(["status", out, "--json"]).json();
        assert_eq!((&status["state"], &status["rows"], &status["rows_done"]), (&"done".into(), &12.into(), &12.into()));
        let said = env.encaje(["status", out]);
        said.expect_code(0);
        assert!(said.stdout.contains("done") && said.stdout.contains("12 rows"), "{}", said.stdout);
    }
    let list = env.encaje(["list", "outs", "--json"]).json();
    let names: Vec<&str> = list.as_array().unwrap().iter().map(|entry| entry["out"].as_str().unwrap()).collect();
    assert_eq!(names, ["outs/dir", "outs/one.parquet"]);
    assert_eq!(env.encaje(["list", "outs"]).stdout.lines().count(), 2);
    let none = env.encaje(["status", "hf"]);
    none.expect_code(1);
    none.expect_said(&["`hf`"]);
}

#[test]
fn tokenize_shows_what_the_model_is_fed() {
    let env = TestEnv::new();
    let model = model();
    let ran = env.encaje(["tokenize", "--model", model.to_str().unwrap(), "--json", "hola", "la playa"]);
    ran.expect_code(0);
    let lines: Vec<serde_json::Value> = ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    let tokens = lines[1]["tokens"].as_array().unwrap();
    assert_eq!(tokens.len() as u64, lines[1]["n_tokens"].as_u64().unwrap());
    assert_eq!(lines[1]["attention_mask"].as_array().unwrap().len(), tokens.len());
    assert!(tokens[0]["special"].as_bool().unwrap() && lines[1]["truncated"] == false);
    assert_eq!(lines[1]["decoded"], "la playa");
    let words = ["tokenize", "--model", model.to_str().unwrap(), "--max-length", "3", "la playa azul y el perro"];
    let ran = env.encaje(words);
    assert!(ran.stdout.contains("(3, truncated)"), "{}", ran.stdout);
}

#[test]
fn tokenize_reads_lines_from_stdin() {
    let env = TestEnv::new();
    env.write("lines.txt", "hola\nadiós\n");
    let mut command = env.command(["tokenize", "--json", "--model", model().to_str().unwrap()]);
    command.stdin(std::fs::File::open(env.path("lines.txt")).unwrap());
    let ran = crate::harness::Ran::of(command.output().unwrap());
    ran.expect_code(0);
    assert_eq!(ran.stdout.lines().count(), 2);
}

#[test]
fn model_show_describes_a_directory_and_pull_prints_it() {
    let env = TestEnv::new();
    let model = model();
    let path = model.to_str().unwrap();
    let shown = env.encaje(["model", "show", path, "--json"]).json();
    assert_eq!((&shown["architecture"], &shown["native"]), (&"bert".into(), &true.into()));
    assert_eq!(shown["digest"].as_str().unwrap().len(), 64);
    let said = env.encaje(["model", "show", path]);
    said.expect_code(0);
    assert!(said.stdout.contains("family          bert") && said.stdout.contains("pooling"), "{}", said.stdout);
    let pulled = env.encaje(["model", "pull", path]);
    pulled.expect_code(0);
    assert_eq!(pulled.stdout.trim_end(), path);
}

#[test]
fn completions_are_scripts() {
    let env = TestEnv::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ran = env.encaje(["completions", shell]);
        ran.expect_code(0);
        assert!(ran.stdout.contains("encaje") && ran.stdout.contains("verify"), "{shell}");
    }
    env.encaje(["completions", "tcsh"]).expect_code(2);
}

#[cfg(unix)]
#[test]
fn a_reader_that_goes_away_is_no_error() {
    let env = TestEnv::new();
    let program = env!("CARGO_BIN_EXE_encaje");
    let script = format!("'{program}' completions bash; echo $? >&2");
    // The shell closes the program's stdout before it writes.
    let output = std::process::Command::new("bash")
        .args(["-c", &format!("exec 3> >(exec 3>&-; exit 0); sleep 0.2; {{ {script}; }} >&3")])
        .current_dir(env.path(""))
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr).trim(), "0");
}

#[test]
fn a_maximum_length_without_room_for_text_is_refused_before_any_work() {
    let env = TestEnv::new();
    env.write("a.csv", corpora::csv(&sentences(3)));
    let refused = env.encaje(run_words("a.csv", "out", &["--max-length", "2"]));
    refused.expect_code(2);
    refused.expect_said(&["--max-length 2 leaves no token for the text", "give at least 3"]);
    assert!(!env.path("out").exists());
    env.run_ok("a.csv", "out", &["--max-length", "3"]);
}

#[test]
fn merge_says_what_to_do_about_its_paths() {
    let env = TestEnv::new();
    env.write("a.csv", corpora::csv(&sentences(3)));
    env.run_ok("a.csv", "out", &[]);
    env.encaje(["merge", "out", "--out", "m.parquet"]).expect_code(0);
    for (dir, out, said) in [
        ("nothere", "x.parquet", ["`nothere`: it does not exist", "give the directory of a finished run"]),
        ("m.parquet", "x.parquet", ["`m.parquet`: it is a file", "give the directory of a finished run"]),
        ("out", "m.parquet", ["already exists", "--force to replace it"]),
        ("out", "nodir/x.parquet", ["there is no folder `nodir`", "make the folder first"]),
        ("out", "out", ["`out` is a folder", "give a file as --out"]),
    ] {
        let refused = env.encaje(["merge", dir, "--out", out]);
        assert_ne!(refused.code, Some(0), "{dir} {out}");
        refused.expect_said(&said);
    }
    env.encaje(["merge", "out", "--out", "m.parquet", "--force"]).expect_code(0);
}
