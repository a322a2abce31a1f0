from __future__ import annotations

from tasks_service.formats import Encoded, JoiningWriter, Joints

JOINTS = Joints(header=b"<", separator=b",", footer=b">", empty=b"<>")


def joined(*pages: Encoded) -> bytes:
    writer = JoiningWriter(JOINTS)
    return b"".join([*(writer.add(page) for page in pages), writer.finish()])


def test_a_file_without_a_row_is_its_own_text() -> None:
    assert joined() == b"<>"
    assert joined(Encoded(b"", 0)) == b"<>"


def test_separators_stand_between_pages_and_nowhere_else() -> None:
    assert joined(Encoded(b"a", 1)) == b"<a>"
    assert joined(Encoded(b"a", 1), Encoded(b"", 0), Encoded(b"bc", 2), Encoded(b"d", 1)) == b"<a,bc,d>"


def test_a_page_has_as_many_documents_as_rows_unless_it_says_otherwise() -> None:
    assert (Encoded(b"x", 3).documents, Encoded(b"x", 3, documents=2).documents) == (3, 2)
    assert Encoded(b"xyz", 1).size == 3
