"""Tasks that are programs, MPI ranks, containers and requests: the real ones."""

import json
import os
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from isthmus.domain.errors import Invalid, NotFound
from isthmus.tasks import (
    COLLECTION_IN,
    FILE_IN,
    FILE_OUT,
    INOUT,
    Prefix,
    Type,
    barrier,
    start,
    stop,
    task,
    wait_on,
)
from isthmus.tasks.constraints import constraint
from isthmus.tasks.directions import TABLE
from isthmus.tasks.kinds.command import CommandFailed
from isthmus.tasks.kinds.decorators import (
    binary,
    compss,
    container,
    epilog,
    http,
    mpi,
    mpmd_mpi,
    multinode,
    prolog,
    software,
)
from isthmus.tasks.kinds.http import RequestFailed
from isthmus.tasks.transformations import (
    COLLECTION_TO_OBJECT,
    FILE_TO_COLLECTION,
    FILE_TO_OBJECT,
    OBJECT_TO_FILE,
    DTObject,
    dt,
)

pytestmark = pytest.mark.system


@pytest.fixture(autouse=True, params=["processes", "threads"])
def engine(request):
    start(engine=request.param, workers=2)
    yield request.param
    stop(kill=True)


@task(path=FILE_OUT)
def write(path, text):
    Path(path).write_text(text)


# -- programs --------------------------------------------------------------------------------------------------


@binary(binary="sort", args="-r")
@task(source=TABLE["FILE_STDIN"], result=TABLE["FILE_STDOUT"])
def sort_down(source, result):
    pass


def test_a_program_between_tasks(tmp_path):
    source, result = str(tmp_path / "in"), str(tmp_path / "out")
    write(source, "a\nc\nb\n")
    sort_down(source, result)

    @task(path=FILE_IN, returns=1)
    def read(path):
        return Path(path).read_text()

    assert wait_on(read(result)) == "c\nb\na\n"


def test_arguments_prefixes_and_exit_codes(tmp_path):
    @binary(binary="sh", args="-c 'exit {{code}}'", fail_by_exit_value=False)
    @task(returns=int)
    def leaves(code):
        pass

    @binary(binary="expr")
    @task(result={Type: TABLE["FILE_STDOUT"]}, hidden={Prefix: "#"})
    def plus(a, sign, b, hidden, result):
        pass

    out = str(tmp_path / "sum")
    plus(2, "+", 3, "nobody sees", out)
    assert wait_on(leaves(7)) == 7
    barrier()
    assert Path(out).read_text() == "5\n"


def test_a_value_stays_one_word_and_a_list_is_several(tmp_path):
    @binary(binary="printf", args=r"'%s\n' {{spaced}} '{{dollar}}!' {{several}}")
    @task(result=TABLE["FILE_STDOUT"])
    def say(spaced, dollar, several, result):
        pass

    out = tmp_path / "said"
    say("next monday", "$HOME", ["a", "b c"], str(out))
    barrier()
    assert out.read_text() == "next monday\n$HOME!\na\nb c\n"


def test_wildcards_stand_for_files_unless_they_are_quoted(tmp_path):
    for name in ("b.txt", "a.txt"):
        (tmp_path / name).write_text(name)

    @binary(binary="echo", args="*.txt '*.txt' {{given}} *.none", working_dir=str(tmp_path))
    @task(result=TABLE["FILE_STDOUT"])
    def listed(given, result):
        pass

    listed("*.txt", str(tmp_path / "out"))
    barrier()
    assert (tmp_path / "out").read_text() == "a.txt b.txt *.txt *.txt *.none\n"


def test_files_are_found_from_another_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    @binary(binary="cp", working_dir="elsewhere/deep")
    @task(source=FILE_IN, result=FILE_OUT)
    def copied(source, result):
        pass

    write("source", "hello")
    copied("source", "result")
    barrier()
    assert Path("result").read_text() == "hello"


def test_a_failed_program_says_what_it_said(tmp_path):
    @binary(binary="ls", working_dir=str(tmp_path))
    @task(on_failure="FAIL", returns=int)
    def look(name):
        pass

    with pytest.raises(CommandFailed, match=r"nothing-here.*exit code 2"):
        wait_on(look("nothing-here"))

    @binary(binary="no-such-program")
    @task(on_failure="FAIL", returns=int)
    def missing():
        pass

    with pytest.raises(CommandFailed, match="no-such-program can't be started"):
        wait_on(missing())


def test_programs_before_and_after(tmp_path):
    @prolog(binary="touch", args=f"{tmp_path}/before-{{{{x}}}}")
    @epilog(binary="touch", args=f"{tmp_path}/after-{{{{x}}}}")
    @task(returns=1)
    def middle(x):
        return sorted(os.listdir(tmp_path))

    assert wait_on(middle(3)) == ["before-3"]
    barrier()
    assert sorted(os.listdir(tmp_path)) == ["after-3", "before-3"]


def test_a_description_in_a_file(tmp_path):
    described = {
        "execution": {"type": "binary", "binary": "sh", "args": "-c 'exit {{code}}'", "fail_by_exit_value": False},
        "parameters": {"returns": "int"},
        "constraints": {"computing_units": 1},
    }
    path = tmp_path / "software.json"
    path.write_text(json.dumps(described))

    @software(config_file=str(path))
    def leaves(code):
        pass

    assert wait_on(leaves(4)) == 4
    with pytest.raises(NotFound, match="not-there"):
        software(config_file="not-there.json")(lambda: None)


def test_another_program_with_tasks_is_a_task(tmp_path):
    app = tmp_path / "app.py"
    app.write_text(
        "import sys\nfrom pycompss.api.task import task\nfrom pycompss.api.api import compss_wait_on\n"
        "@task(returns=1)\ndef f(x): return x + 1\n"
        "if __name__ == '__main__': open(sys.argv[2], 'w').write(str(compss_wait_on(f(int(sys.argv[1])))))\n"
    )

    @compss(app_name=str(app), flags="--workers=1")
    @task(result=FILE_OUT, returns=int)
    def inner(x, result):
        pass

    out = tmp_path / "out"
    assert wait_on(inner(41, str(out))) == 0
    assert out.read_text() == "42"


def test_unknown_words_have_a_nearest():
    with pytest.raises(Invalid, match="working_dir"):
        binary(binary="ls", working_dirr=".")
    with pytest.raises(Invalid, match="binary="):
        binary(args="x")


# -- MPI -------------------------------------------------------------------------------------------------------


@mpi(runner="mpirun", processes=2)
@task(returns=2)
def ranks(x):
    from mpi4py import MPI

    world = MPI.COMM_WORLD
    return world.allreduce(x + world.rank) * 10 + world.rank


@mpi(runner="mpirun", processes="n", data_layout={"block_count": 4, "block_length": 1, "stride": 1})
@task(data=COLLECTION_IN, returns=2)
def dealt(data, n):
    return data


how_many = 1


@mpi(runner="mpirun", processes="how_many")
@task(returns=1)
def counted():
    from mpi4py import MPI

    return MPI.COMM_WORLD.size


@mpi(runner="mpirun", processes=2)
@task(values=INOUT, returns=1)
def changed(values):
    values.append("here")
    return len(values)


@constraint(computing_units=2)
@mpi(runner="mpirun", processes=1)
@task(returns=list)
def threads_of_each():
    return os.environ["OMP_NUM_THREADS"]


@pytest.mark.skipif(shutil.which("mpirun") is None, reason="scripts/install-system-packages installs OpenMPI")
def test_python_functions_on_ranks(monkeypatch):
    @task(returns=1)
    def one():
        return 1

    assert wait_on(ranks(one())) == [30, 31]
    assert wait_on(dealt([one(), 2, 3, 4], 2)) == [[1, 3], [2, 4]]
    values = []
    assert wait_on(changed(values)) == [1, 1]
    assert wait_on(values) == ["here"]
    assert wait_on(threads_of_each()) == ["2"]
    monkeypatch.setitem(globals(), "how_many", 3)  # what it is at the call, whatever workers had
    assert wait_on(counted()) == [3, 3, 3]


@pytest.mark.skipif(shutil.which("mpirun") is None, reason="scripts/install-system-packages installs OpenMPI")
def test_programs_on_ranks(tmp_path):
    @mpi(runner="mpirun", binary="sh", args="-c 'echo $OMPI_COMM_WORLD_RANK'", processes=3)
    @task(result=TABLE["FILE_STDOUT"])
    def each(result):
        pass

    @mpmd_mpi(
        runner="mpirun",
        programs=[
            {"binary": "echo", "args": "first {{x}}", "processes": 2},
            {"binary": "echo", "args": "second"},
        ],
    )
    @task(result=TABLE["FILE_STDOUT"], returns=int)
    def both(x, result):
        pass

    each(str(tmp_path / "each"))
    assert wait_on(both(5, str(tmp_path / "both"))) == 0
    barrier()
    assert sorted((tmp_path / "each").read_text().split()) == ["0", "1", "2"]
    assert sorted((tmp_path / "both").read_text().splitlines()) == ["first 5", "first 5", "second"]


def test_a_task_is_told_its_nodes():
    @constraint(computing_units=2)
    @multinode(computing_nodes=3)
    @task(returns=1)
    def told():
        return os.environ["COMPSS_NUM_NODES"], os.environ["COMPSS_NUM_THREADS"]

    assert wait_on(told()) == ("3", "2")


# -- containers ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    from tests.testbed.images import rootfs

    return rootfs(tmp_path_factory.mktemp("image") / "root")


@pytest.mark.skipif(shutil.which("ch-run") is None, reason="scripts/install-system-packages installs charliecloud")
def test_a_program_and_a_function_in_an_image(image, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("USER", "root")

    @container(engine="CHARLIECLOUD", image=str(image))
    @binary(binary="cat", args="/etc/isthmus-image")
    @task(result=TABLE["FILE_STDOUT"])
    def inside(result):
        pass

    @container(engine="CHARLIECLOUD", image=str(image))
    @mpi(runner="mpirun", binary="cat", args="/etc/isthmus-image", processes=2)
    @task(result=TABLE["FILE_STDOUT"])
    def inside_twice(result):
        pass

    (image / "etc").mkdir(exist_ok=True)
    (image / "etc" / "isthmus-image").write_text("in the image\n")
    out, twice = tmp_path / "out", tmp_path / "twice"
    inside(str(out))
    inside_twice(str(twice))
    barrier()
    assert out.read_text() == "in the image\n"
    assert twice.read_text() == "in the image\n" * 2


def test_an_unknown_engine_of_containers_is_refused():
    @container(engine="DOKCER", image="x")
    @binary(binary="ls")
    @task(on_failure="FAIL", returns=int)
    def inside():
        pass

    with pytest.raises(Invalid, match="DOCKER"):
        wait_on(inside())


# -- requests --------------------------------------------------------------------------------------------------


class Service(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path.startswith("/length/"):
            word = self.path.rpartition("/")[2]
            self.answer({"length": len(word), "child": {"depth": "one", "message": word}})
        else:
            self.send_error(404, "no such thing")

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.answer({"got": body})

    def answer(self, value):
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass


@pytest.fixture
def service():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


@http(
    service_name="words",
    request="GET",
    resource="length/{{word}}",
    produces="{'length': '{{return_1}}', 'child': {'message': '{{return_0}}'}}",
)
@task(returns=2)
def length(word):
    pass


@http(service_name="words", request="POST", resource="any", payload='{"first": {{x}}, "also": [1, {{y}}]}')
@task(returns=dict)
def send(x, y):
    pass


@http(
    service_name="words",
    request="GET",
    resource="length/abc",
    produces='{"length": "{{count}}"}',
    updates="{{event}}.third = {{count}}",
)
@task(event=INOUT)
def update(event):
    pass


@http(service_name="words", request="GET", resource="nothing")
@task(returns=1, on_failure="FAIL")
def nothing():
    pass


def test_requests_are_tasks(service, monkeypatch, engine):
    stop()
    monkeypatch.setenv("ISTHMUS_TASKS_SERVICES", f"words={service}")
    start(engine=engine, workers=2)
    word, count = length("hello")
    assert wait_on(word, count) == ["hello", 5]
    assert wait_on(send(word, {"deep": 1})) == {"got": {"first": "hello", "also": [1, {"deep": 1}]}}
    event = {"first": 1}
    update(event)
    assert wait_on(event) == {"first": 1, "third": 3}
    with pytest.raises(RequestFailed, match="404"):
        wait_on(nothing())


def test_a_service_without_an_address_says_how_to_give_one(monkeypatch):
    with pytest.raises(Invalid, match="ISTHMUS_TASKS_SERVICES=words="):
        wait_on(nothing())


# -- transformations -------------------------------------------------------------------------------------------


def read_text(path):
    return Path(path).read_text()


def write_text(value, path):
    Path(path).write_text(value)


def split_words(path):
    return Path(path).read_text().split()


def joined(values):
    return " ".join(values)


def test_transformations_between_argument_and_task(tmp_path):
    @dt(target="data", function=read_text, type=FILE_TO_OBJECT)
    @task(returns=1)
    def upper(data):
        return data.upper()

    @dt(target="data", function=write_text, type=OBJECT_TO_FILE, destination=str(tmp_path / "made"))
    @task(data=FILE_IN, returns=1)
    def size(data):
        return os.path.getsize(data)

    @dt("data", joined, type=COLLECTION_TO_OBJECT)
    @task(returns=1)
    def said(data):
        return data + "!"

    source = str(tmp_path / "source")
    write(source, "hello")
    assert wait_on(upper(source)) == "HELLO"
    assert wait_on(size("12345")) == 5
    assert wait_on(said(["a", "b"])) == "a b!"


def test_a_call_says_what_to_transform(tmp_path):
    @dt()
    @task(returns=1)
    def upper(data, suffix):
        return data.upper() + suffix

    @dt("words", split_words, type=FILE_TO_COLLECTION, size=2)
    @task(words=COLLECTION_IN, returns=1)
    def first_two(words):
        return words

    many = str(tmp_path / "many")
    write(many, "a b c")
    assert wait_on(first_two(many)) == ["a", "b"]
    source = str(tmp_path / "source")
    write(source, "hello")
    decoded = DTObject("data", read_text, type=FILE_TO_OBJECT)
    assert wait_on(upper(source, "!", dt=decoded)) == "HELLO!"
    assert wait_on(upper(["a", "b"], ".", dt=[DTObject("data", joined, type=COLLECTION_TO_OBJECT)])) == "A B."
    assert wait_on(upper("plain", "")) == "PLAIN"
    with pytest.raises(Invalid, match="no transformation"):
        upper("x", "", dt="data")


# -- launching -------------------------------------------------------------------------------------------------


def test_runcompss_takes_the_usual_command_lines(tmp_path):
    app = tmp_path / "app.py"
    app.write_text(
        "import sys\nfrom pycompss.api.task import task\nfrom pycompss.api.parameter import *\n"
        "from pycompss.api.api import compss_wait_on\nfrom pycompss.api.constraint import constraint\n"
        '@constraint(computing_units="1")\n@task(returns=int)\ndef f(x): return x + 1\n'
        'if __name__ == "__main__": print(compss_wait_on(f(int(sys.argv[1]))))\n'
    )
    command = [sys.executable, "-m", "isthmus.tasks.launch"]
    options = ["run", "--lang=python", "-d", "--summary", "--graph", f"--pythonpath={tmp_path}", "--workers=1"]
    done = subprocess.run([*command, *options, str(app), "4"], capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert done.stdout == "5\n", done.stderr
    assert (tmp_path / "complete_graph.svg").exists()
    wrong = subprocess.run([*command, "-x", str(app)], capture_output=True, text=True, timeout=60)
    assert wrong.returncode == 2 and "-x" in wrong.stderr
