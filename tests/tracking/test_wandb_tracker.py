"""The W&B run of a selffilter run: offline, one for all rounds, on axes of its own."""

from selffilter.store import RunStore, read_json
from selffilter.tracking.wandb_tracker import WandbTracker, _mode, logged_in


def open_tracker(root):
    return WandbTracker(
        RunStore(root), {"seed": 0}, mode="offline", project="test", name="run", group=None
    )


def logged(run, record):
    """Return what a tracker hands to W&B for a record."""
    seen = []
    run._run.log = seen.append
    run.log(record)
    return seen[0]


def test_a_resume_goes_on_with_the_same_wandb_run(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_SILENT", "true")
    first = open_tracker(tmp_path)
    id_ = first._run.id
    first.log({"kind": "train", "round": 0, "stage": "train", "samples_seen": 64, "loss": 2.0})
    first.close()
    again = open_tracker(tmp_path)
    assert again._run.id == id_ == read_json(tmp_path / "wandb.json")["id"]
    record = {"kind": "train", "round": 1, "stage": "train", "samples_seen": 32, "loss": 1.5}
    assert logged(again, record) == {"train/loss": 1.5, "round": 1, "samples_seen": 32}
    shot = {"kind": "zero_shot", "round": 1, "stage": "evaluate", "samples_seen": 32}
    assert logged(again, shot | {"set": "clip-art", "acc1": 0.5}) == {
        "zero_shot/clip-art/acc1": 0.5,
        "round": 1,
        "samples_seen": 32,
    }
    again.close()
    assert len(list((tmp_path / "wandb").glob(f"offline-run-*-{id_}"))) >= 1


def test_being_logged_in_is_found_without_the_network(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert not logged_in()
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password secret")
    assert logged_in()
    monkeypatch.delenv("NETRC")
    monkeypatch.setenv("WANDB_API_KEY", "key")
    assert logged_in()
    monkeypatch.delenv("WANDB_MODE", raising=False)
    assert _mode("auto") == "online"
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert _mode("auto") == "offline"
