"""MLflow's runs lie in the study's folder, whatever characters its path has."""

from pathlib import Path

import pytest

from rem_study.errors import InputError
from rem_study.storage import open_folder
from rem_study.tracking.client import artifact_location, make_client
from rem_study.tracking.sqlite_uri import plainly_named, sqlite_file, sqlite_uri

NAMES = ["plain", "a?b=c&d #%3F", "a%b@c:d;ä", "a\nb'\"\\", "file:x", "?"]


@pytest.mark.parametrize("name", NAMES)
def test_whatever_a_folder_is_called_its_database_has_a_plain_name(tmp_path, name):
    database = tmp_path / name / "mlflow.db"
    database.parent.mkdir()
    database.write_text("rows")
    with plainly_named(database) as named:
        uri = sqlite_uri(named)
        assert not set(uri.removeprefix("sqlite:///")) & set("?#%&;:\n'\"\\")
        assert sqlite_file(uri) == database.resolve() and named.read_text() == "rows"
    assert database.read_text() == "rows"


def test_runs_and_artifacts_lie_where_the_path_says_and_nowhere_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / NAMES[1]
    folder.mkdir()
    artifact = tmp_path / "note.txt"
    artifact.write_text("here")
    with plainly_named(folder / "mlflow.db") as named:
        uri = sqlite_uri(named)
        client = make_client(uri)
        experiment = client.create_experiment("study", artifact_location=artifact_location(uri, None))
        client.log_artifact(client.create_run(experiment).info.run_id, str(artifact))
    assert (folder / "mlflow.db").stat().st_size > 0
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([folder.name, "note.txt"])
    assert [path.read_text() for path in folder.glob("artifacts/**/note.txt")] == ["here"]


@pytest.mark.parametrize("url", ["file:///a?b", "file:///a#b"])
def test_a_url_that_would_be_cut_short_is_refused(url):
    with pytest.raises(InputError, match="%3F"):
        open_folder(url)
    assert open_folder("file:///a%3Fb%23c") == Path("/a?b#c")
