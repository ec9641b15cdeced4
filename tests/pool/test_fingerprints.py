"""Asking for size and tag of many shards."""

from selffilter.pool.fingerprints import stat_all
from selffilter.pool.stores.remote import RemoteStore
from selffilter.pool.stores.store import Stat


def test_a_server_that_stays_silent_is_not_asked_about_every_shard(monkeypatch):
    asked = []

    def silent(self, location):
        asked.append(location)
        if "down" in location:
            raise OSError(f"{location}: connection refused")
        return Stat(1, "tag")

    monkeypatch.setattr(RemoteStore, "stat", silent)
    monkeypatch.setattr("selffilter.pool.fingerprints._AT_ONCE", 1)
    down = [f"http://down/{i}.tar" for i in range(50)]
    found = stat_all([*down, "http://up/0.tar"])
    assert asked == ["http://down/0.tar", "http://up/0.tar"]
    assert found[-1] == Stat(1, "tag")
    assert str(found[0]) == "http://down/0.tar: connection refused"
    assert {str(error) for error in found[1:-1]} == {
        "not asked, for the server does not answer: http://down/0.tar: connection refused"
    }


def test_a_shard_that_is_not_there_says_nothing_about_the_others(monkeypatch):
    def one_is_gone(self, location):
        if location.endswith("/0.tar"):
            raise FileNotFoundError(location)
        return Stat(1, "tag")

    monkeypatch.setattr(RemoteStore, "stat", one_is_gone)
    gone, *others = stat_all([f"http://up/{i}.tar" for i in range(3)])
    assert isinstance(gone, FileNotFoundError)
    assert others == [Stat(1, "tag")] * 2
