"""`build`: what goes into the image is gathered and judged before anything is built."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.world.stack import ROOT


def build(tmp_path: Path, *arguments: str | Path, program: Path = ROOT / "build") -> "subprocess.CompletedProcess[str]":
    temporary = tmp_path / "temporary"
    temporary.mkdir(exist_ok=True)
    return subprocess.run(
        [str(program), "--gather-only", *map(str, arguments)],
        env={"PATH": os.environ["PATH"], "TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    folder = tmp_path / "scripts"
    folder.mkdir()
    (folder / "syncOneWork.sh").write_text('#!/bin/bash\nPWD=/path\npassword=$1\nlogin "$password"\n')
    return folder


def test_a_site_s_own_files_lie_where_the_dockerfile_takes_them_from(tmp_path: Path, scripts: Path) -> None:
    (tmp_path / "audit.deb").write_bytes(b"!<arch>\n")
    (tmp_path / "site.txt").write_text("bdrc-util==1.0\n")
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "site-sync.yml").write_text("sync: {web: false}\n")

    options = {"sync-scripts": scripts, "requirements": tmp_path / "site.txt", "audit-tool": tmp_path / "audit.deb"}
    given = [part for name, value in options.items() for part in (f"--{name}", value)]
    gathered = build(tmp_path, "--build-dir", tmp_path / "context", "--config", tmp_path / "config", *given)

    assert gathered.returncode == 0, gathered.stderr
    site = tmp_path / "context" / "docker" / "site"
    assert (site / "bin" / "syncOneWork.sh").read_text().startswith("#!/bin/bash\nPWD=/path")
    assert (site / "packages" / "audit.deb").exists()
    assert (site / "requirements" / "site.txt").exists()
    assert (site / "config" / "site-sync.yml").exists()
    for line in (ROOT / "Dockerfile").read_text().splitlines():
        if line.startswith("COPY ") and "--from" not in line:
            for name in line.split()[1:-1]:
                assert (tmp_path / "context" / name).exists(), name
    names = {path.name for path in (tmp_path / "context").rglob("*")}
    assert not names & {".git", ".env", "tests", "__pycache__"}


def judged(context: Path) -> str:
    """What the gate of the image has to say about a build context; nothing if all may go in."""
    told = subprocess.run(
        [ROOT / "docker" / "no-secrets", context], capture_output=True, text=True, check=False, timeout=60
    )
    assert (told.returncode, told.stderr) == (2 if told.stdout else 0, "")
    return told.stdout


def holding(tmp_path: Path, files: dict[str, str]) -> Path:
    """A build context with these files of a site's."""
    for name, content in files.items():
        file = tmp_path / "context" / "docker" / "site" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content + "\n")
    return tmp_path / "context"


CREDENTIAL_FILES = [
    "server.pem",
    "aws-credentials",
    "db_apps.config",
    ".netrc",
    ".s3cfg",
    ".npmrc",
    ".pypirc",
    ".boto",
    ".env",
    "prod.env",
    "id_rsa",
    "id_ed25519",
    "backup.kdbx",
    ".aws/config",
    ".ssh/known_hosts",
    ".docker/config.json",
    "rclone.conf",
    "service-account.json",
    "terraform.tfstate",
    "my.cnf",
    "htpasswd",
]
# Each line by itself gives a secret away; ↵ is a line's end.
SECRETS = r"""
export KEY=AKIAIOSFODNN7EXAMPLE
aws_secret_access_key = /JalrXUtnFEMIhunter2
-----BEGIN OPENSSH PRIVATE KEY-----
postgresql://me:hunter2@db/works
url = redis://:hunter2@cache/0
password: hunter2
PASSWORD = "hunter2"
export DB_PASS=hunter2
DBPASS='hunter2'
MYSQL_PWD=hunter2 mysql drs
secretKey: hunter2hunter2
curl "https://x/?api_key=hunter2"
login --password hunter2
wget --http-password=hunter2 https://x
mysql --password=hunter2 drs
mysql -u drs -phunter2 drs
mysqldump -udrs -p'hunter2' drs
"$client" -h db -u drs -phunter2
mysql -u drs \↵  -phunter2
sshpass -p hunter2 ssh me@x
curl -u me:hunter2 https://x
curl -su "me:hunter2" https://x
curl --user me:hunter2 https://x
curl -H "Authorization: Bearer hunter2hunter2" https://x
curl -H 'X-Api-Key: hunter2hunter2' https://x
lftp -u me,hunter2 sftp://x
smbclient -U me%hunter2 //x/y
openssl enc -d -pass pass:hunter2 -in x
redis-cli -a hunter2 get x
CREATE USER me IDENTIFIED BY 'hunter2';
machine x login me password hunter2
echo hunter2 | sudo -S mount x
//registry.npmjs.org/:_authToken=npm_hunter2hunter2hunter2
x: ghp_hunter2hunter2hunter2
https://hooks.slack.com/services/T00/B00/hunter2
password: >-↵  hunter2
password: | # of the database↵  hunter2
password:↵    hunter2
"password":↵  "hunter2"
password: &pw hunter2
PASSWORDS: {}↵password:↵  - hunter2
db.password hunter2
requirepass hunter2
aws configure set aws_secret_access_key hunter2
git config --global x.password hunter2
npm config set //registry/:_authToken hunter2
passwd --stdin me <<< "hunter2"
sudo -S mount x <<<hunter2
echo "hunter2" | docker login -u me --password-stdin
printf '%s' hunter2 | kinit me
<password>hunter2</password>
<db:password>↵  hunter2↵</db:password>
<name>db.password</name>↵<value>hunter2</value>
<property name="password" value="hunter2"/>
- name: DB_PASSWORD↵  value: hunter2
{"name": "DB_PASSWORD", "value": "hunter2"}
DB_CREDENTIALS=root/hunter2
PASSWORD = "/data/hunter2"
DB_PASS=/dev/hunter2
DB_PASS=~/hunter2
PASS=("hunter2")
PASSWORD="${PASSWORD:-hunter2}"
password=${1:-hunter2}
[ "$password" = x ] || password+=hunter2
echo "{\"password\": \"hunter2\"}"
$h{password} = "hunter2";
api-key: hunter2
password2=hunter2
setenv DB_PASSWORD hunter2
ENV DB_PASSWORD hunter2
sudo -S mount x <<END↵hunter2↵END
SET PASSWORD FOR me = 'hunter2';
ALTER ROLE me WITH ENCRYPTED PASSWORD 'hunter2';
""".strip().splitlines()  # fmt: skip
SECRETS_IN_PROGRAMS = r"""
connect(password="hunter2")
os.environ["PGPASSWORD"] = "hunter2"
PASSWORD: str = "hunter2"
PASSWORD: Final[str | None] = 'hunter2'
os.environ.setdefault("MYSQL_PWD", "hunter2")
os.environ.get("DB_PASSWORD", "hunter2")
config.set("database", "password", "hunter2")
connect(passwd=("hunter2"))
PASSWORD = (↵    "hunter2"↵)
PASSWORD = \↵    "hunter2"
PASSWORD = '''hunter2'''
PASSWORD = b"hunter2"
PASSWORD = "/data/hunter2"
if (password := "hunter2"):
if password == "hunter2":
const password =↵  "hunter2";
{"password": "hunter2"}
{"password":↵  "hunter2"}
env={"PGPASSWORD": "hunter2"}
connect("dbname=x user=y password=hunter2")
connect("Server=x;Uid=y;Pwd=hunter2;")
subprocess.run("mysql -u drs -phunter2 drs", shell=True)
get(url, auth=("me", "hunter2"))
server.login("me", "hunter2")
headers = {"Authorization": "Bearer hunter2"}
""".strip().splitlines()  # fmt: skip
HARMLESS = r"""
PWD=/path
OLDPWD=/opt/bag; pwd
password=$1
password = ${DB_PASSWORD}
token=$(cat /run/secrets/token)
db_password = /run/secrets/db_password
rsync -pog --password-file=/run/secrets/rsync a b
PASSWORD_FILE=/run/secrets/db_password
read -rs password
secret = %(secret)s
password: <here>
audit.pass=true
bypass: anything; compass=north; passed=0
curl -u "$user:$password" https://x
mysql -u drs -p"$DB_PASS" drs
mysql --defaults-file=/run/secrets/drs_cnf drs
docker run -p8080:80 image; ssh -p2222 me@x; mkdir -p /data/abc
find . -print -path ./x -prune -perm 644
url = postgresql+psycopg://pipeline@db.example.org/pipeline
https://pipeline:PASSWORD@HOST:8443
# passwords: see the wiki; tokens=12
curl -H "Authorization: Bearer $TOKEN" https://x
: "${DB_PASSWORD:?is not set}"
PASSWORD=↵HOST=localhost
password:↵host: localhost
password:↵  secretKeyRef:↵    name: passwords
<password></password>↵<host>localhost</host>
login "$password"↵get_token
read -r user password host <<< "$line"
token={{ vault_token }}
echo "it is done" | tee log; echo "password:"; read -rs password
for work in W1 W2; do echo "$work" >>"$list"; done
while read -r token; do sync "$token"; done <<<"$tokens"
""".strip().splitlines()
HARMLESS_IN_PROGRAMS = r"""
connect(password=password, token=token_of(me))
password = os.environ["DB_PASSWORD"]
password = getpass("Password of the database: ")
names = ["user", "password", "host"]
connect("dbname=x", password=password, host="localhost")
url = f"password={password} host=localhost"
execute("password=%s", value)
{"password": "", "host": "localhost"}
PASSWORD_FILE = "/run/secrets/db_password"
PASSWORD = "/run/secrets/db_password"
def login(password: str, host: str = "localhost") -> None:
password = None
""".strip().splitlines()


def samples(elsewhere: list[str], in_programs: list[str]) -> dict[str, str]:
    """A file for each line."""
    kinds = {"bin/line{}.sh": elsewhere, "bin/line{}.py": in_programs}
    return {name.format(at): text.replace("↵", "\n") for name, lines in kinds.items() for at, text in enumerate(lines)}


def test_what_looks_like_a_credential_is_named_without_being_shown(tmp_path: Path) -> None:
    files = {f"config/{name}": "anything" for name in CREDENTIAL_FILES} | samples(SECRETS, SECRETS_IN_PROGRAMS)

    told = judged(holding(tmp_path, files))

    refused = {line.partition(": ")[0] for line in told.splitlines()}
    assert {name: text for name, text in files.items() if name not in refused} == {}
    for secret in ("hunter2", "UtnFEMI", "AKIAIOSFODNN7"):
        assert secret not in told


def test_what_is_taken_from_elsewhere_at_run_time_is_no_credential(tmp_path: Path) -> None:
    files = samples(HARMLESS, HARMLESS_IN_PROGRAMS)

    refused = {line.partition(": ")[0] for line in judged(holding(tmp_path, files)).splitlines()}

    assert {name: text for name, text in files.items() if name in refused} == {}


def test_what_cannot_be_read_or_lies_elsewhere_is_not_taken_unless_a_person_looked_at_it(tmp_path: Path) -> None:
    context = holding(tmp_path, {"bin/sync.sh": "echo", "notes/readme": "x", "packages/keys.tar": "x"})
    (context / "docker/site/bin/tool").write_bytes(b"\x7fELF\0\0")
    (context / "docker/site/bin/link").symlink_to("/etc/shadow")
    (context / "pipeline").mkdir()
    (context / "pipeline" / "id_rsa").write_text("anything\n")

    refused = {line.partition(": ")[0] for line in judged(context).splitlines()}
    assert refused == {"bin/tool", "bin/link", "notes/readme", "packages/keys.tar", "pipeline/id_rsa"}

    (context / "docker/site/allowed").write_text("bin/tool\npipeline/id_rsa\n../../pipeline/id_rsa\n")
    assert "bin/tool" not in judged(context)
    assert "pipeline/id_rsa: " in judged(context)


def test_nothing_is_built_of_sources_that_hold_a_password_or_files_of_somebody_else(tmp_path: Path) -> None:
    sources = tmp_path / "sources"
    for name in ("pipeline", "native", "bin", "docker", "locks"):
        shutil.copytree(ROOT / name, sources / name)
    for name in ("build", "Dockerfile", ".dockerignore", "run_pipeline.py"):
        shutil.copy(ROOT / name, sources / name)
    (sources / "luigi.cfg").write_text("[database]\nurl = postgresql://me:hunter2@db/works\n")
    (sources / "pipeline" / "id_rsa").write_text("anything\n")
    (sources / "docker" / "site" / "bin" / "by-hand.sh").write_text("export DB_PASS=hunter2\n")

    refused = build(tmp_path, program=sources / "build")

    assert refused.returncode == 2
    for name in ("luigi.cfg", "pipeline/id_rsa", "bin/by-hand.sh"):
        assert f"{name}: " in refused.stderr, name
    assert "hunter2" not in refused.stderr + refused.stdout
    assert list((tmp_path / "temporary").iterdir()) == []


def test_the_image_s_own_build_goes_through_the_same_gate() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    before, gate, after = dockerfile.partition("RUN bash docker/no-secrets .\n")

    assert gate
    assert before.rstrip().splitlines()[-2].startswith("COPY . ./")
    assert "COPY run_pipeline.py" not in after  # what is judged is what goes in


def test_the_build_folder_is_compared_as_a_folder(tmp_path: Path) -> None:
    sources = tmp_path / "pipeline"
    sources.mkdir()
    shutil.copy(ROOT / "build", sources / "build")
    (tmp_path / "link").symlink_to(sources)
    (tmp_path / "full" / "bin").mkdir(parents=True)
    (tmp_path / "full" / "bin" / "mine").write_text("mine")

    beside = build(tmp_path, "--build-dir", tmp_path / "pipeline-build", program=sources / "build")
    inside = build(tmp_path, "--build-dir", tmp_path / "link" / "b", program=sources / "build")
    full = build(tmp_path, "--build-dir", tmp_path / "full", program=sources / "build")

    assert "lies in the sources" not in beside.stderr
    assert (inside.returncode, sorted(path.name for path in sources.iterdir())) == (2, ["build"])
    assert "lies in the sources" in inside.stderr
    assert full.returncode == 2
    assert "holds other things" in full.stderr
    assert (tmp_path / "full" / "bin" / "mine").read_text() == "mine"


def test_tools_that_a_sync_would_miss_are_told(tmp_path: Path) -> None:
    (tmp_path / "site.txt").write_text("awscli==1.0\n")
    (tmp_path / "audit.deb").write_bytes(b"")

    lacking = build(tmp_path)
    complete = build(tmp_path, "--requirements", tmp_path / "site.txt", "--audit-tool", tmp_path / "audit.deb")

    assert (lacking.returncode, complete.returncode) == (0, 0), complete.stderr
    assert "no audit tool" in lacking.stderr
    assert "no aws command" in lacking.stderr
    assert complete.stderr == ""


def test_the_base_image_is_the_one_whose_digest_the_image_names(tmp_path: Path) -> None:
    digest = "sha256:" + "0123456789abcdef" * 4
    engine = tmp_path / "engine"
    engine.mkdir()
    # Stands in for Docker: it has the image of a registry, and notes what it is asked to build.
    (engine / "docker").write_text(
        f"""#!/bin/bash
case "$*" in
*RepoDigests*) echo python@{digest} ;;
build*) printf '%s\\n' "$@" >"{tmp_path}/asked" ;;
esac
"""
    )
    (engine / "docker").chmod(0o755)

    built = subprocess.run(
        [ROOT / "build"], env={"PATH": f"{engine}:{os.environ['PATH']}"}, capture_output=True, check=False, timeout=60
    )

    asked = (tmp_path / "asked").read_text().splitlines()
    assert built.returncode == 0
    assert f"BASE=python@{digest}" in asked
    assert "org.opencontainers.image.base.name=python:3.11-slim-bookworm" in asked
    assert f"org.opencontainers.image.base.digest={digest}" in asked
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert [line for line in dockerfile.splitlines() if line.startswith("FROM ") and "${BASE}" not in line] == []


def test_a_package_pinned_twice_is_named_with_both_versions(tmp_path: Path) -> None:
    (tmp_path / "site.txt").write_text("SQLAlchemy == 1.4.0\nBoto3[crt]==1.0 ; python_version > '3'\n")

    refused = build(tmp_path, "--requirements", tmp_path / "site.txt")

    assert refused.returncode == 2
    assert "sqlalchemy is" in refused.stderr
    assert "1.4.0 in site.txt" in refused.stderr
    assert "boto3 is" in refused.stderr


@pytest.mark.parametrize("option", ["--sync-scripts", "--requirements", "--audit-tool", "--config"])
def test_a_file_that_is_not_there_is_named(tmp_path: Path, option: str) -> None:
    refused = build(tmp_path, option, tmp_path / "nothing")

    assert refused.returncode == 2
    assert option in refused.stderr
