"""`for_each` and `matrix` through the command line, as a user writes them."""

import json

from userkit import User, events

JOB = """
    project: fan
    inputs:
      tone: {default: kind}
    steps:
      list:
        run: cat items.json
      items:
        needs: [list]
        python: parts:parse
        with: {text: "{{ steps.list.output.text }}"}
      square:
        needs: [items]
        for_each: "{{ steps.items.output }}"
        key: "{{ item.id }}"
        max_parallel: 2
        run: echo ran >> "ran-$ORCH_ITEM"; echo "$N$N" > "$ORCH_OUTPUTS/$ORCH_ITEM.txt"; echo "$N"
        env: {N: "{{ item.n }}"}
      say:
        needs: [square]
        matrix:
          lang: [en, de]
          tone: ["{{ inputs.tone }}", plain]
          exclude: [{lang: de, tone: plain}]
        llm:
          prompt: "{{ matrix.tone }} {{ matrix.lang }}: {{ steps.square.output[0].text }}"
        save_as: "say/{{ matrix.lang }}-{{ matrix.tone }}.md"
    outputs:
      numbers: "{{ steps.square.output }}"
      files: "{{ steps.square.files }}"
"""


def user_of(folder, items):
    user = User(folder)
    user.write("job.yaml", JOB)
    user.write("parts.py", "import json\n\ndef parse(text):\n    return json.loads(text)\n")
    user.write("items.json", json.dumps(items))
    return user


def ran(user):
    return {path.name: path.read_text().count("ran") for path in user.home.glob("ran-*")}


def test_each_item_is_a_step_of_its_own_with_its_files_and_its_log(tmp_path):
    user = user_of(tmp_path, [{"id": "x", "n": 1}, {"id": "y", "n": 2}, {"id": "z", "n": 3}])
    done = user.orch("run", "job.yaml", "--json")
    outputs = done.json["outputs"]
    assert [item["text"] for item in outputs["numbers"]] == ["1", "2", "3"]
    assert [file["path"] for file in outputs["files"]] == ["x.txt", "y.txt", "z.txt"]
    (job,) = user.jobs()
    said = sorted(path.name for path in (job / "outputs" / "say").iterdir())
    assert said == ["de-kind.md", "en-kind.md", "en-plain.md"]
    assert sorted(
        e["item"] for e in events(job, "step.succeeded") if e["step"] == "square" and e.get("item")
    ) == [
        "x",
        "y",
        "z",
    ]
    shown = user.orch("show", "latest", "square[y]", "--json").json
    assert shown["output"]["text"] == "2"
    assert user.orch("logs", "latest", "square[y]").out.strip() == "2"


def test_only_items_that_are_new_or_changed_run_again(tmp_path):
    user = user_of(tmp_path, [{"id": "x", "n": 1}, {"id": "y", "n": 2}, {"id": "z", "n": 3}])
    user.orch("run", "job.yaml")
    text = user.home.joinpath("job.yaml").read_text()
    items = [{"id": "w", "n": 9}, {"id": "z", "n": 3}, {"id": "x", "n": 1}, {"id": "y", "n": 5}]
    user.home.joinpath("items.json").write_text(json.dumps(items))
    user.home.joinpath("job.yaml").write_text(text.replace("cat items.json", "cat ./items.json"))
    done = user.orch("run", "job.yaml", "--resume", "--json")
    assert ran(user) == {"ran-x": 1, "ran-y": 2, "ran-z": 1, "ran-w": 1}
    assert [item["text"] for item in done.json["outputs"]["numbers"]] == ["9", "3", "1", "5"]


def test_a_group_that_fails_says_which_item_and_goes_on_from_there(tmp_path):
    user = user_of(tmp_path, [{"id": "x", "n": 1}, {"id": "y", "n": 2}])
    bad = user.home.joinpath("job.yaml").read_text()
    user.write("job.yaml", bad.replace('echo "$N"\n', 'echo "$N"; test ! -e fail-$ORCH_ITEM\n'))
    user.write("fail-y", "")
    done = user.orch("run", "job.yaml", "--keep-going", code=1)
    assert "square[y]" in done.err
    assert "1 of 2 items failed" in done.err
    user.home.joinpath("fail-y").unlink()
    user.orch("run", "job.yaml", "--resume")
    assert ran(user) == {"ran-x": 1, "ran-y": 2}


def test_a_list_that_is_none_is_told_with_the_step(tmp_path):
    user = User(tmp_path)
    user.write(
        "job.yaml",
        """
        project: p
        steps:
          a: {run: echo hello}
          b: {needs: [a], for_each: "{{ steps.a.output.text }}", run: "true"}
        """,
    )
    done = user.orch("run", "job.yaml", code=1)
    assert "`for_each` must be a list, and is" in done.err


def test_a_job_s_outputs_are_recorded_and_shown(tmp_path):
    user = User(tmp_path)
    user.write(
        "job.yaml",
        """
        project: p
        inputs: {n: {default: 2000}}
        steps:
          a: {run: "seq $N", env: {N: "{{ inputs.n }}"}}
        outputs: {last: "{{ steps.a.output.text[-4:] }}", all: "{{ steps.a.output.text }}"}
        """,
    )
    user.orch("run", "job.yaml")
    shown = user.orch("show")
    assert "last: 2000\n" in shown.out
    assert len(user.orch("show", "--json").json["outputs"]["all"]) > 8000
    user.orch("run", "job.yaml", "--set", "n=3000")
    assert "last: 3000\n" in user.orch("show").out
    assert user.orch("show", "--json").json["outputs"]["all"].endswith("\n3000")


def test_outputs_that_cannot_be_rendered_fail_the_job_and_a_resume_tries_them_again(tmp_path):
    user = User(tmp_path)
    spec = """
        project: p
        steps:
          a: {run: "echo ran >> ran; echo 1"}
        outputs: {x: "{{ steps.a.output.nope }}"}
    """
    user.write("job.yaml", spec)
    done = user.orch("run", "job.yaml", code=1)
    assert "the job's outputs failed (template)" in done.err
    assert "nope" in done.err
    user.write("job.yaml", spec.replace(".nope", ".text"))
    again = user.orch("run", "job.yaml", "--resume", "--json")
    assert again.json["outputs"] == {"x": "1"}
    assert user.home.joinpath("ran").read_text() == "ran\n"


NAMED = """
    project: named
    inputs: {list: {type: array, default: [a, b]}}
    steps:
      say: {for_each: "{{ inputs.list }}", cache: CACHE, run: echo $ORCH_ITEM}
    outputs: {said: "{{ steps.say.output }}"}
"""


def said(done):
    return [item["text"] for item in done.json["outputs"]["said"]]


def test_a_command_that_reads_its_item_s_name_is_not_given_the_result_of_another_item(tmp_path):
    user = User(tmp_path)
    user.write("job.yaml", NAMED.replace("CACHE", "true"))
    assert said(user.orch("run", "job.yaml", "--json")) == ["a", "b"]
    other = user.orch("run", "job.yaml", "--json", "--set", 'list=["c", "b"]')
    assert said(other) == ["c", "b"]
    assert [hit["item"] for hit in events(user.jobs()[-1], "cache.hit")] == ["b"]


def test_an_item_that_comes_does_not_take_over_the_result_of_one_that_went(tmp_path):
    user = User(tmp_path)
    user.write("job.yaml", NAMED.replace("CACHE", "false"))
    user.orch("run", "job.yaml")
    more = ("--resume", "--set", 'list=["c", "a"]')
    assert said(user.orch("run", "job.yaml", "--json", *more)) == ["c", "a"]


def test_a_whole_step_that_is_reused_is_told_without_a_model(tmp_path):
    user = User(tmp_path)
    user.write("job.yaml", NAMED.replace("CACHE", "true"))
    user.orch("run", "job.yaml")
    again = user.orch("run", "job.yaml")
    assert "cache hit" in again.err
    assert "/  cache hit" not in again.err


def test_a_failed_item_has_failed_its_group_also_in_a_job_that_stops_at_it(tmp_path):
    user = User(tmp_path)
    user.write(
        "job.yaml",
        """
        project: undo
        steps:
          deploy: {for_each: [a, b], run: test $ORCH_ITEM != b}
          status: {needs: deploy, if: 'steps.deploy.status == "failed"', run: echo undone}
          failed: {needs: deploy, if: failed(), run: echo undone}
        """,
    )
    user.orch("run", "job.yaml", code=1)
    (job,) = user.jobs()
    ended = {event["step"] for event in events(job, "step.succeeded") if "item" not in event}
    assert ended == {"status", "failed"}


def test_failed_items_that_a_group_bears_are_told_where_it_ends(tmp_path):
    user = User(tmp_path)
    user.write(
        "job.yaml",
        """
        project: borne
        steps:
          each: {for_each: [a, b, c], max_failures: 2, run: test $ORCH_ITEM = a}
        """,
    )
    assert "each  3 items  2 of them failed\n" in user.orch("run", "job.yaml").err


def test_a_misspelled_item_is_told_with_what_is_there_for_items(tmp_path):
    user = User(tmp_path)
    spec = """
        project: p
        steps: {a: {for_each: [1], run: "true", key: "{{ NAME }}"}}
        """
    user.write("job.yaml", spec.replace("NAME", "itme"))
    assert "did you mean `item`?" in user.orch("validate", "job.yaml", code=2).err
    user.write("job.yaml", spec.replace("NAME", "unit"))
    assert "there are env, inputs, item, model" in user.orch("validate", "job.yaml", code=2).err


def test_items_that_differ_by_case_alone_have_logs_of_their_own_on_any_disk(tmp_path):
    user = User(tmp_path)
    user.write("job.yaml", "{project: p, steps: {x: {for_each: [a, A], run: echo $ORCH_ITEM}}}")
    user.orch("run", "job.yaml")
    names = [path.name for path in (user.job() / "logs" / "x.d").iterdir()]
    assert len({name.lower() for name in names}) == 2
    assert user.orch("logs", "latest", "x[A]").out == "A\n"
    assert user.orch("logs", "latest", "x[a]").out == "a\n"


def test_the_logs_of_a_group_are_those_of_its_items(tmp_path):
    user = User(tmp_path)
    spec = "{project: p, steps: {x: {for_each: [a, b], run: echo $ORCH_ITEM}, xy: {run: echo no}}}"
    user.write("job.yaml", spec)
    user.orch("run", "job.yaml")
    assert user.orch("logs", "latest", "x").out == "==> x[a] <==\na\n==> x[b] <==\nb\n"
