"""Keys reach the provider they belong to and nothing else: no file, no output, no process."""

import base64
import os
from urllib.parse import quote

import pytest

from orchestrator.testing import serve
from userkit import User, events, outputs

KEYS = {
    "OPENAI_API_KEY": "sk-canary-openai/0aB+9==",
    "ANTHROPIC_API_KEY": "sk-canary-anthropic/7xY+2==",
}
FORMS = [
    shown
    for key in KEYS.values()
    for shown in (
        key,
        quote(key, safe=""),
        base64.b64encode(key.encode()).decode().rstrip("="),
        base64.b64encode(b"user:" + key.encode()).decode(),
        key.encode().hex(),
    )
]
ECHO = " ".join(["you sent", *FORMS])

STATUS = (400, 401, 403, 404, 408, 413, 429, 500, 502, 503, 529, 302)
BROKEN = ("reset", "half", "html", "bad_json", "content_type", "gzip_bomb", "hang", "drip")
BROKEN += ("endless", "endless_headers", "endless_line")
STREAMED = ("cut", "cut_well", "error_event", "stall")


@pytest.fixture(scope="module")
def server():
    with serve() as running:
        yield running


@pytest.fixture
def user(tmp_path, server):
    server.reset()
    home = {"XDG_CACHE_HOME": str(tmp_path / "cache-home")}
    return User(tmp_path, **{**server.environ(), **KEYS, **home})


def leaks(folder, *texts):
    """Return where a key is found, in whichever form: in files, their names, or texts."""
    found = []
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink() and path.name != ".env":
            content = path.read_bytes()
            found += [(path.name, form) for form in FORMS if form.encode() in content]
        found += [(str(path), form) for form in FORMS if form in path.name]
    return found + [(text[:80], form) for text in texts for form in FORMS if form in text]


def faulty(provider, faults):
    steps = "".join(
        f"  {name}: {{timeout_s: 1, retry: {{max_attempts: 1}}, llm: {{prompt: 'on {name}.'}}}}\n"
        for name in faults
    )
    return f"project: p\nprovider: {provider}\nmodel: m\nconcurrency: 40\nsteps:\n{steps}"


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_no_fault_of_a_server_that_echoes_keys_brings_one_into_the_run_folder(
    user, server, provider
):
    faults = {
        f"status{code}": {"status": code, "body": {"error": {"message": ECHO}}} for code in STATUS
    }
    faults |= {f"plain{code}": {"status": code, "body": ECHO} for code in (400, 500)}
    faults |= {
        f"header{code}": {"status": code, "headers": {"x-request-id": FORMS[0]}}
        for code in (200, 500)
    }
    faults |= {kind: {"kind": kind, "code": ECHO} for kind in BROKEN}
    faults |= {f"stream_{kind}": {"kind": kind, "code": ECHO} for kind in STREAMED}
    for name, fault in faults.items():
        server.fail(match=f"on {name}.", **fault)
    user.write("job.yaml", faulty(provider, faults))
    done = user.orch("run", "job.yaml", "--keep-going", code=None)
    shown = [user.orch(*command).out for command in (["show"], ["show", "--json"], ["logs"])]
    assert len(events(user.job(), "step.failed")) >= len(faults) - 3
    assert leaks(user.home, done.out, done.err, *shown) == []


def test_an_answer_that_holds_the_key_is_stored_without_it(user, server):
    answer = {"choices": [{"message": {"content": ECHO}, "finish_reason": "stop"}]}
    server.fail(status=200, body=answer)
    spec = "project: p\nprovider: openai\nmodel: m\nsteps:\n"
    spec += "  s: {llm: {prompt: hi, stream: false}, save_as: a.txt, cache: {scope: user}}\n"
    user.write("job.yaml", spec)
    done = user.orch("run", "job.yaml")
    assert outputs(user.job())["a.txt"].count("[OPENAI_API_KEY]") == 5
    assert leaks(user.home, done.out, done.err) == []


def test_steps_are_not_given_a_provider_s_key_unless_they_name_it(user):
    ask = 'echo "${OPENAI_API_KEY:-none} ${ANTHROPIC_API_KEY:-none} ${PLAIN:-none}"'
    user.env["PLAIN"] = "yes"
    user.write(
        "job.yaml",
        f"""
        project: p
        steps:
          plain: {{run: '{ask}'}}
          named: {{run: '{ask} | wc -c', secrets: OPENAI_API_KEY}}
          python: {{python: 'mod:keys'}}
        """,
    )
    user.write(
        "mod.py", "import os\n\ndef keys():\n    return [k for k in os.environ if 'KEY' in k]\n"
    )
    user.orch("run", "job.yaml")
    found = {e["step"]: e["data"]["output"] for e in events(user.job(), "step.succeeded")}
    assert found["plain"]["text"] == "none none yes"
    assert found["named"]["text"] == str(len(KEYS["OPENAI_API_KEY"]) + len(" none yes\n"))
    assert found["python"] == ["ORCH_IDEMPOTENCY_KEY"]


def test_what_steps_say_of_a_key_is_masked_everywhere(user):
    user.write(
        "job.yaml",
        """
        project: p
        secrets: [OPENAI_API_KEY]
        steps:
          out: {run: 'printf "sk-%s" "${OPENAI_API_KEY#sk-}"; echo " $OPENAI_API_KEY" >&2'}
          b64: {run: 'printf %s "$OPENAI_API_KEY" | base64'}
          cut: {run: 'printf %s "$OPENAI_API_KEY" | (head -c 9; sleep 0.1; cat)'}
          dies: {run: 'echo "bad key $OPENAI_API_KEY" >&2; exit 3'}
          returns: {python: 'mod:f'}
          raises: {python: 'mod:g'}
        """,
    )
    body = "import os\nK = os.environ['OPENAI_API_KEY']\n\ndef f():\n    return {K: [K]}\n\n"
    user.write("mod.py", body + "def g():\n    raise ValueError(K)\n")
    done = user.orch("run", "job.yaml", "--keep-going", code=1)
    logs = user.orch("logs").out
    found = {e["step"]: e["data"]["output"] for e in events(user.job(), "step.succeeded")}
    assert (
        found["out"]["text"] == found["cut"]["text"] == found["b64"]["text"] == "[OPENAI_API_KEY]"
    )
    assert found["returns"] == {"[OPENAI_API_KEY]": ["[OPENAI_API_KEY]"]}
    assert "bad key [OPENAI_API_KEY]" in done.err
    assert logs.count("[OPENAI_API_KEY]") >= 5
    assert leaks(user.home, done.out, done.err, logs) == []


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="there is no /proc to look at")
def test_no_process_has_a_key_among_its_arguments(user):
    user.write(
        "mod.py",
        """
        import glob, os

        def holders():
            key = os.environ["OPENAI_API_KEY"].encode()
            found = 0
            for path in glob.glob("/proc/[0-9]*/cmdline"):
                try:
                    with open(path, "rb") as file:
                        found += key in file.read()
                except OSError:
                    pass
            return found
        """,
    )
    spec = "project: p\nsteps:\n  s: {python: 'mod:holders', secrets: [OPENAI_API_KEY]}\n"
    user.write("job.yaml", spec)
    user.orch("run", "job.yaml")
    assert events(user.job(), "step.succeeded")[0]["data"]["output"] == 0


def test_a_changed_secret_runs_the_step_again_and_is_stored_as_a_hash_alone(user):
    user.env["DB_PASSWORD"] = "first-password"
    user.write("job.yaml", "project: p\nsteps:\n  s: {run: 'echo x', secrets: [DB_PASSWORD]}\n")
    user.orch("run", "job.yaml")
    user.orch("run", "job.yaml", "--resume")
    assert len(events(user.job(), "step.started")) == 1
    user.env["DB_PASSWORD"] = "second-password"
    user.orch("run", "job.yaml", "--resume")
    first, second = (e["data"]["parts"]["secrets"] for e in events(user.job(), "step.started"))
    assert first != second
    assert b"-password" not in (user.job() / "events.jsonl").read_bytes()


def test_a_secret_that_is_not_set_is_told(user):
    user.write("job.yaml", "project: p\nsteps:\n  s: {run: 'echo x', secrets: [NO_SUCH]}\n")
    assert "the secret NO_SUCH is not set" in user.orch("run", "job.yaml", code=3).err


@pytest.mark.parametrize("where", ["spec", "file", "input"])
def test_a_job_that_would_store_a_key_is_refused_before_it_begins(user, where):
    key = KEYS["OPENAI_API_KEY"]
    spec = "project: p\ninputs: {word: {}}\nsteps:\n  s: {run: 'echo x', files: [f.txt]}\n"
    user.write("f.txt", key if where == "file" else "plain")
    user.write("job.yaml", spec + (f"# {key}\n" if where == "spec" else ""))
    word = key if where == "input" else "plain"
    done = user.orch("run", "job.yaml", "--set", f"word={word}", code=2)
    assert "holds a key" in done.err
    assert user.jobs() == []
    assert key not in done.err


def test_a_key_comes_from_a_dotenv_file_beside_the_job(user, server):
    del user.env["OPENAI_API_KEY"]
    env = user.write("job/.env", f"OPENAI_API_KEY={KEYS['OPENAI_API_KEY']}\n")
    user.write(
        "job/job.yaml", "project: p\nprovider: openai\nmodel: m\nsteps: {s: {llm: {prompt: x}}}\n"
    )
    env.chmod(0o600)
    done = user.orch("run", "job/job.yaml")
    assert "warning" not in done.err
    assert server.calls()[0].headers["authorization"] == "[key]"
    env.chmod(0o644)
    assert "others can read the keys" in user.orch("run", "job/job.yaml").err
    assert leaks(user.home) == []


def test_a_spec_can_t_have_a_key_sent_to_another_port_of_this_machine(user, server):
    del user.env["OPENAI_BASE_URL"]
    spec = f"project: p\nprovider: openai\nmodel: m\nbase_url: {server.url}/v1\n"
    user.write("job.yaml", spec + "steps: {s: {llm: {prompt: x}}}\n")
    user.orch("run", "job.yaml")
    assert "authorization" not in server.calls()[0].headers
    user.write("job.yaml", spec.replace("openai", "anthropic") + "steps: {s: {llm: {prompt: x}}}\n")
    del user.env["ANTHROPIC_BASE_URL"]
    assert "only the spec names" in user.orch("run", "job.yaml", "--no-cache", code=3).err
    assert len(server.calls()) == 1
