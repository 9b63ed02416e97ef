"""Lists of files: what is written is read back, and what is no entry is passed over."""

import pytest

from mmdiff2in1.core.list_files import ListLine, list_bytes, list_entries, list_lines, named_classes


def test_lines_and_entries(tmp_path):
    file = tmp_path / 'list.txt'
    file.write_bytes('\ufeffa/0001 \r\n\r\n# half\r\nb\u20282\r\n'.encode())
    assert [line.text for line in list_lines(file)] == ['a/0001', '', '# half', 'b\u20282']
    assert list_entries(file) == [ListLine(str(file), 1, 'a/0001'), ListLine(str(file), 4, 'b\u20282')]
    assert str(list_entries(file)[1]) == f'{file}:4'


def test_what_is_written_is_read_back(tmp_path):
    names = ['a/0001', 'b c', 'd\u2028e', 'é']
    (tmp_path / 'list.txt').write_bytes(list_bytes(names))
    assert [line.text for line in list_entries(tmp_path / 'list.txt')] == names


@pytest.mark.parametrize('name', ['', ' a', 'a\u2028', 'a\nb', 'a\rb', 'a\udcfcb'])
def test_names_that_no_line_holds(name):
    with pytest.raises(ValueError) as raised:
        list_bytes(['a', name])
    assert str(raised.value).startswith(f'found the name {name!r}, ')


def test_a_file_of_class_names(tmp_path):
    file = tmp_path / 'names.txt'
    file.write_text('wall\n\n red table \n')
    assert named_classes(str(file)) == ['wall', 'red table']
    assert named_classes('wall') is None and named_classes('wall,a/b') is None
    assert named_classes(','.join(f'class {i}' for i in range(150))) is None  # longer than the name of a file may be
    for text, message in (('\n \n', 'found no names'), ('wall\nbed\nwall\n', 'found wall more than once')):
        file.write_text(text)
        with pytest.raises(ValueError, match=rf'names\.txt: {message}, expected'):
            named_classes(str(file))
    file.unlink()
    for said in (str(file), 'other.txt', 'a/b'):
        with pytest.raises(FileNotFoundError, match='no such file, expected one with the name of a class in each line'):
            named_classes(said)
