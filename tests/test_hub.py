"""Agents on the Hugging Face Hub: huggingface_hub itself, against a server on this machine that keeps files."""

import base64
import hashlib
import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import equinox as eqx
import jax
import numpy as np
import pytest

import undelude as ud
from undelude._runs.hub import model_card

huggingface_hub = pytest.importorskip("huggingface_hub")


class Hub:
    """What the server keeps: the files of each commit, and the commits of each repository in order."""

    def __init__(self):
        self.commits, self.repositories = {}, {}
        # The status of all answers, if the server refuses.
        self.refuses = None

    def find(self, repo, revision):
        commits = self.repositories.get(repo)
        if not commits:
            return None
        return commits[-1] if revision == "main" else revision if revision in commits else None

    def commit(self, repo, lines):
        parent = self.find(repo, "main")
        files = dict(self.commits.get(parent, {}))
        for line in lines:
            if line["key"] == "file":
                files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            if line["key"] == "deletedFile":
                del files[line["value"]["path"]]
        sha = hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()
        self.commits[sha] = files
        self.repositories[repo].append(sha)
        return sha


class Handler(BaseHTTPRequestHandler):
    """The requests that an upload of small files and a download make."""

    protocol_version = "HTTP/1.1"
    kept: Hub

    def log_message(self, *args):
        del args

    def answer(self, status, content=b"", **headers):
        body = json.dumps(content).encode() if isinstance(content, dict | list) else content
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers["Content-Length"]))
        content = b""
        while size := int(self.rfile.readline(), 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return content

    def do_POST(self):
        body = self.body()
        if self.kept.refuses:
            return self.answer(self.kept.refuses, {"error": "refused"})
        path = urlsplit(self.path).path
        parts = path.strip("/").split("/")
        if path == "/api/repos/create":
            asked = json.loads(body)
            repo = f"{asked.get('organization') or 'somebody'}/{asked['name']}"
            if repo in self.kept.repositories:
                return self.answer(409, {"error": "exists", "url": f"http://{self.headers['Host']}/{repo}"})
            self.kept.repositories[repo] = []
            return self.answer(200, {"url": f"http://{self.headers['Host']}/{repo}", "name": repo})
        if path == "/api/validate-yaml":
            return self.answer(200, {"errors": [], "warnings": []})
        repo, what = "/".join(parts[2:4]), parts[4]
        if repo not in self.kept.repositories:
            return self.answer(404, {"error": "no such repository"})
        if what == "preupload":
            asked = json.loads(body)["files"]
            files = [{"path": x["path"], "uploadMode": "regular", "shouldIgnore": False} for x in asked]
            return self.answer(200, {"files": files})
        sha = self.kept.commit(repo, map(json.loads, body.splitlines()))
        url = f"http://{self.headers['Host']}/{repo}/commit/{sha}"
        return self.answer(200, {"success": True, "commitOid": sha, "commitUrl": url})

    def do_GET(self):
        if self.kept.refuses:
            return self.answer(self.kept.refuses, {"error": "refused"})
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        if parts[0] == "api" and parts[1] == "models":
            repo = "/".join(parts[2:4])
            sha = self.kept.find(repo, parts[5] if len(parts) > 5 else "main")
            if sha is None:
                what = "Revision" if self.kept.repositories.get(repo) else "Repo"
                return self.answer(404, {"error": "none"}, X_Error_Code=f"{what}NotFound")
            if parts[4:5] == ["tree"]:
                digests = {name: hashlib.sha1(x).hexdigest() for name, x in self.kept.commits[sha].items()}
                sizes = {name: len(x) for name, x in self.kept.commits[sha].items()}
                rows = [{"type": "file", "path": x, "oid": digests[x], "size": sizes[x]} for x in digests]
                return self.answer(200, rows)
            names = [{"rfilename": name} for name in self.kept.commits[sha]]
            return self.answer(200, {"id": repo, "sha": sha, "siblings": names})
        repo, revision, name = "/".join(parts[:2]), parts[3], "/".join(parts[4:])
        sha = self.kept.find(repo, revision)
        content = self.kept.commits.get(sha, {}).get(name)
        if content is None:
            return self.answer(404, b"", X_Error_Code="EntryNotFound")
        etag = hashlib.sha1(content).hexdigest()
        return self.answer(200, content, ETag=f'"{etag}"', X_Repo_Commit=sha)

    def do_HEAD(self):
        self.do_GET()


@pytest.fixture
def hub(tmp_path):
    """Return what the server keeps, and how it is named to our functions."""
    kept = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"kept": kept}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    kept.push = {"endpoint": f"http://127.0.0.1:{server.server_port}", "token": "secret"}
    kept.pull = kept.push | {"cache_dir": tmp_path}
    yield kept
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def agent(bandit):
    return ud.GRUAgent(bandit, 8, key=jax.random.key(0))


@pytest.fixture(scope="module")
def report(bandit, agent):
    return ud.certify(bandit, agent, key=jax.random.key(0), num_episodes=32, baselines=False)


def test_agent_comes_back_as_it_was(hub, agent, report):
    address = ud.push_to_hub(agent, "somebody/bandit", certificate=report, **hub.push)
    sha = hub.repositories["somebody/bandit"][-1]
    assert address.endswith(f"/somebody/bandit/commit/{sha}")
    assert {*hub.commits[sha]} >= {"agent.json", "weights.safetensors", "certificate.json", "README.md"}
    back = ud.from_pretrained("somebody/bandit", **hub.pull)
    assert eqx.tree_equal(back, agent)
    assert json.loads(hub.commits[sha]["certificate.json"])["action_kl_do"] == report.action_kl_do


def test_revision_names_one_agent(hub, bandit, agent):
    other = ud.GRUAgent(bandit, 8, key=jax.random.key(1))
    for each in (agent, other):
        ud.push_to_hub(each, "somebody/bandit", **hub.push)
    first, second = hub.repositories["somebody/bandit"]
    assert eqx.tree_equal(ud.from_pretrained("somebody/bandit", revision=first, **hub.pull), agent)
    assert eqx.tree_equal(ud.from_pretrained("somebody/bandit", **hub.pull), other)
    assert first != second


def test_certificate_of_an_earlier_agent_does_not_stay(hub, agent, report):
    """The file and the card are of the agent that lies beside them; other files stay."""
    ud.push_to_hub(agent, "somebody/bandit", certificate=report, **hub.push)
    hub.commit("somebody/bandit", [{"key": "file", "value": {"path": "notes.txt", "content": ""}}])
    ud.push_to_hub(agent, "somebody/bandit", **hub.push)
    files = hub.commits[hub.repositories["somebody/bandit"][-1]]
    assert {*files} == {"agent.json", "weights.safetensors", "README.md", "notes.txt"}
    assert b"No certificate was given" in files["README.md"]


def test_repository_is_found_beside_a_folder_of_its_name(hub, agent, tmp_path, monkeypatch):
    ud.push_to_hub(agent, "somebody/bandit", **hub.push)
    (tmp_path / "somebody" / "bandit").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert eqx.tree_equal(ud.from_pretrained("somebody/bandit", **hub.pull), agent)
    with pytest.raises(ValueError, match=r"\./somebody/bandit is a folder here"):
        ud.from_pretrained("./somebody/bandit", **hub.pull)
    ud.save(agent, "somebody/bandit")
    with pytest.raises(ValueError, match=r"^from_pretrained: somebody/bandit is a folder here: read it with ud.load"):
        ud.from_pretrained("somebody/bandit", **hub.pull)


def test_repository_without_an_agent_is_named(hub):
    hub.repositories["somebody/other"] = []
    hub.commit("somebody/other", [{"key": "file", "value": {"path": "notes.txt", "content": ""}}])
    with pytest.raises(FileNotFoundError, match=r"somebody/other has no agent of undelude: it lacks agent.json"):
        ud.from_pretrained("somebody/other", **hub.pull)


def test_missing_repository_and_revision_are_named(hub, agent):
    with pytest.raises(FileNotFoundError, match=r"from_pretrained: .* has no repository somebody/none .*token="):
        ud.from_pretrained("somebody/none", **hub.pull)
    ud.push_to_hub(agent, "somebody/bandit", **hub.push)
    with pytest.raises(FileNotFoundError, match=r"somebody/bandit has no revision v9: name a branch") as error:
        ud.from_pretrained("somebody/bandit", revision="v9", **hub.pull)
    assert type(error.value.__cause__).__name__ == "RevisionNotFoundError"
    with pytest.raises(ValueError, match="'a/b/c' cannot be the name of a repository: write SOMEBODY/NAME"):
        ud.from_pretrained("a/b/c", **hub.pull)


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (401, PermissionError, "wants a token that it knows for somebody/x: pass token=, or store a token"),
        (403, PermissionError, "the token does not permit this in somebody/x"),
        (400, ConnectionError, "answers with status 400 about somebody/x"),
    ],
)
def test_refusal_says_what_to_do(hub, agent, status, kind, words):
    hub.refuses = status
    with pytest.raises(kind, match=rf"push_to_hub: .*{words}"):
        ud.push_to_hub(agent, "somebody/x", **hub.push)
    with pytest.raises(kind, match=rf"from_pretrained: .*{words}"):
        ud.from_pretrained("somebody/x", **hub.pull)


def test_missing_connection_is_named(tmp_path, agent):
    with socket.socket() as bound:  # A port on which no server listens.
        bound.bind(("127.0.0.1", 0))
        where = {"endpoint": f"http://127.0.0.1:{bound.getsockname()[1]}", "token": "secret"}
        with pytest.raises(
            ConnectionError, match=r"from_pretrained: http://.* cannot be reached for somebody/x: check"
        ):
            ud.from_pretrained("somebody/x", cache_dir=tmp_path, **where)
        with pytest.raises(ConnectionError, match=r"push_to_hub: http://.* cannot be reached for somebody/x: check"):
            ud.push_to_hub(agent, "somebody/x", **where)


def test_exact_agent_is_refused_before_anything_is_made(hub, bandit):
    with pytest.raises(TypeError, match="ExactAgent cannot be saved"):
        ud.push_to_hub(ud.ExactAgent(bandit), "somebody/exact", **hub.push)
    assert not hub.repositories


def test_card_shows_the_certificate_and_says_if_there_is_none(agent, report):
    card = model_card(agent, report.to_dict(), repo_id="somebody/bandit", license="mit")
    head = card.split("---")[1]
    assert "library_name: undelude" in head
    assert 'license: "mit"' in head
    assert f"**{report.verdict}**" in card
    assert "32 episodes of 20 rounds" in card
    assert "taught to read actions as do" in card
    row = next(line for line in card.splitlines() if "deluded answer" in line)
    np.testing.assert_allclose(float(row.split("|")[-2].split("±")[0]), report.action_kl_see, rtol=0.2)
    without = model_card(agent, None, repo_id="somebody/bandit")
    assert "license" not in without.split("---")[1]
    assert "not known. Measure it with `ud.certify`" in without


def test_what_is_no_agent_and_no_repository_is_named(tmp_path, bandit):
    host = ud.HostAgent(lambda num_episodes: None, lambda m, a, o: (np.full((1, 5), 0.2), m))
    with pytest.raises(TypeError, match="HostAgent cannot be saved; these can"):
        ud.push_to_hub(host, "somebody/host")
    with pytest.raises(ValueError, match=r"is a folder here: read it with ud.load"):
        ud.from_pretrained(str(tmp_path))
