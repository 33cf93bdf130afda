"""The notebook of the examples, in a real kernel."""

import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

pytestmark = pytest.mark.system

EXAMPLE = Path(__file__).parents[2] / "examples" / "notebook" / "digits.ipynb"


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    """A kernel of this very Python, whatever else is installed here."""
    folder = tmp_path / "kernels" / "python3"
    folder.mkdir(parents=True)
    (folder / "kernel.json").write_text(
        f'{{"argv": ["{sys.executable}", "-m", "ipykernel_launcher", "-f", "{{connection_file}}"],'
        ' "display_name": "Python 3", "language": "python"}'
    )
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))


def shown(cell):
    """All that a cell shows, as text."""
    said = []
    for output in cell.outputs:
        data = output.get("data", {})
        said += [output.get("text", ""), data.get("text/html", ""), data.get("image/svg+xml", "")]
    return "\n".join(said)


def test_the_example(kernel):
    notebook = nbformat.read(EXAMPLE, as_version=4)
    NotebookClient(notebook, timeout=250, kernel_name="python3").execute()
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    run, wrong, table, graph = code[2], code[3], code[4], code[5]
    assert "of 1797 digits" in shown(run)
    assert float(shown(run).split(" of 1797")[0].split()[-1]) > 0.9
    assert "42/42 tasks" in shown(run)
    assert "taken for" in shown(wrong)
    assert "<td style='text-align:left'>grow</td><td>36</td><td>36</td><td>0</td>" in shown(table)
    assert shown(graph).count("<circle") == 42 + 3  # and the legend
    assert "confusion" in shown(graph)


def test_a_word_that_is_none(kernel):
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [nbformat.v4.new_code_cell("%load_ext isthmus\n%tasks grpah")]
    with pytest.raises(CellExecutionError, match="Did you mean 'graph'"):
        NotebookClient(notebook, timeout=120, kernel_name="python3").execute()


def test_the_extension_can_be_taken_out(kernel):
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [
        nbformat.v4.new_code_cell("%load_ext isthmus"),
        nbformat.v4.new_code_cell("%unload_ext isthmus"),
        nbformat.v4.new_code_cell("1 + 1"),
    ]
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    assert notebook.cells[2].outputs[0]["data"]["text/plain"] == "2"
