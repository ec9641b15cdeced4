import pytest

from selffilter.pool.stores.find import Stores, is_far, is_remote
from selffilter.pool.stores.local import LocalStore
from selffilter.pool.stores.pipe import PipeStore
from selffilter.pool.stores.remote import RemoteStore
from selffilter.pool.stores.store import Span


@pytest.mark.parametrize(
    ("location", "kind", "far"),
    [
        ("/data/0.tar", LocalStore, False),
        ("data/0.tar", LocalStore, False),
        ("/data/odd://name/0.tar", LocalStore, False),
        ("s3://bucket/0.tar", RemoteStore, True),
        ("https://a.org/0.tar?x=pipe:", RemoteStore, True),
        ("pipe:cat /data/0.tar", PipeStore, True),
        ("pipe:curl https://a.org/0.tar", PipeStore, True),
    ],
)
def test_a_location_says_where_it_lies(location, kind, far):
    stores = Stores()
    assert isinstance(stores.of(location), kind)
    assert stores.of(location) is stores.of(location)
    assert is_far(location) == far
    assert is_remote(location) == (kind is RemoteStore)


def test_spans_in_several_places_come_in_the_order_asked(server, shards, content):
    places = {"0.tar": str(shards), "1.tar": server.url, "2.tar": f"pipe:cat {shards}"}
    names = ["2.tar", "0.tar", "1.tar", "0.tar", "2.tar", "1.tar"]
    spans = [Span(f"{places[name]}/{name}", i, 7) for i, name in enumerate(names)]
    assert Stores().read(spans) == [content[name][i:7] for i, name in enumerate(names)]
    assert Stores().read([]) == []
