"""AdminService is put together from its subjects."""

import pytest
from image_categorizer_server.rpc.assembly import ADMIN, admin_servicer


def subject(*names):
    methods = {name: (lambda self, request, context: None) for name in names}
    return type("Subject", (), methods)()


NAMES = [method.name for method in ADMIN.methods]


def test_each_rpc_is_answered_by_the_subject_that_defines_it():
    first, second = subject(*NAMES[:3]), subject(*NAMES[3:])
    whole = admin_servicer(first, second)
    owners = [getattr(whole, name).__self__ for name in NAMES]
    assert owners == [first] * 3 + [second] * (len(NAMES) - 3)


@pytest.mark.parametrize(
    ("parts", "count"), [([NAMES[1:]], 0), ([NAMES, NAMES[:1]], 2)], ids=["none", "two"]
)
def test_an_rpc_without_exactly_one_implementation_stops_the_start(parts, count):
    with pytest.raises(ValueError, match=f"{NAMES[0]} has {count} implementations"):
        admin_servicer(*(subject(*names) for names in parts))
