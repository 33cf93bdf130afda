"""The tables. Times are UTC seconds as floats; what is read whole is kept as JSON text.

`metadata` is the one definition: migrations are checked against it by a test.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
    true,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite numbers rows by itself only for a column that is INTEGER PRIMARY KEY.
Id = BigInteger().with_variant(Integer, "sqlite")

instance = Table(  # one row: who this control plane is
    "instance",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(32), nullable=False),  # 8 hex digits; the folder's name at each site
    Column("created_at", Float, nullable=False),
)

users = Table(
    "users",
    metadata,
    Column("id", Id, primary_key=True),
    Column("name", String(100), nullable=False, unique=True),
    Column("role", String(20), nullable=False),
    Column("disabled", Boolean, nullable=False, server_default=false()),
    Column("created_at", Float, nullable=False),
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", Id, primary_key=True),
    Column("user_id", Id, ForeignKey("users.id"), nullable=False, index=True),
    Column("name", String(200), nullable=False),
    Column("hash", String(64), nullable=False, unique=True),  # sha256 of the token's 256 random bits
    Column("scopes", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float),
    Column("revoked_at", Float),
    Column("last_used_at", Float),
)

# How people sign in to the panel, besides by token.
passwords = Table(
    "passwords",
    metadata,
    Column("user_id", Id, ForeignKey("users.id"), primary_key=True),
    Column("hash", Text, nullable=False),  # argon2id, with its salt and parameters
    Column("changed_at", Float, nullable=False),
)

# Who a user is to an OpenID provider.
identities = Table(
    "identities",
    metadata,
    Column("issuer", String(300), primary_key=True),
    Column("subject", String(300), primary_key=True),
    Column("user_id", Id, ForeignKey("users.id"), nullable=False, index=True),
    Column("created_at", Float, nullable=False),
)

# Links that sign in once: `isthmus up` and `isthmus panel` print them.
sign_in_codes = Table(
    "sign_in_codes",
    metadata,
    Column("hash", String(64), primary_key=True),
    Column("user_id", Id, ForeignKey("users.id"), nullable=False),
    Column("token_id", Id, ForeignKey("tokens.id")),  # whose scopes and end the session inherits
    Column("expires_at", Float, nullable=False),
)

browser_sessions = Table(
    "browser_sessions",
    metadata,
    Column("id", Id, primary_key=True),
    Column("hash", String(64), nullable=False, unique=True),  # sha256 of the 256 random bits in the cookie
    Column("user_id", Id, ForeignKey("users.id"), nullable=False, index=True),
    Column("token_id", Id, ForeignKey("tokens.id")),  # it ends with this token, and has its scopes
    Column("way", String(20), nullable=False),  # token, password, link, openid
    Column("agent", String(300), nullable=False, server_default=""),
    Column("address", String(100), nullable=False, server_default=""),
    Column("created_at", Float, nullable=False),
    Column("seen_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False),
)

# Filters of a list in the panel that somebody named.
saved_views = Table(
    "saved_views",
    metadata,
    Column("id", Id, primary_key=True),
    Column("user_id", Id, ForeignKey("users.id"), nullable=False),
    Column("name", String(100), nullable=False),
    Column("query", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    UniqueConstraint("user_id", "name"),
)

secrets = Table(
    "secrets",
    metadata,
    Column("id", Id, primary_key=True),
    Column("user_id", Id, ForeignKey("users.id"), nullable=False),
    Column("name", String(200), nullable=False),
    Column("ciphertext", LargeBinary, nullable=False),
    Column("created_at", Float, nullable=False),
    UniqueConstraint("user_id", "name"),
)

sites = Table(
    "sites",
    metadata,
    Column("id", Id, primary_key=True),
    Column("name", String(100), nullable=False, unique=True),
    Column("state", String(20), nullable=False),
    Column("health", String(20), nullable=False),
    Column("health_message", Text, nullable=False, server_default=""),
    Column("spec", Text, nullable=False),
    Column("inventory", Text, nullable=False),
    Column("probed_at", Float),
    Column("seen_at", Float),
    Column("retry_at", Float),
    Column("created_at", Float, nullable=False),
    Column("attention", Boolean, nullable=False, server_default=true()),
)

# Who a user is at a site: a key pair made here (private part encrypted), or nothing but the name there.
credentials = Table(
    "credentials",
    metadata,
    Column("id", Id, primary_key=True),
    Column("user_id", Id, ForeignKey("users.id"), nullable=False),
    Column("site_id", Id, ForeignKey("sites.id"), nullable=False),
    Column("login", String(100), nullable=False, server_default=""),
    Column("public_key", Text, nullable=False, server_default=""),
    Column("ciphertext", LargeBinary),
    Column("shared", Boolean, nullable=False, server_default=false()),  # others without their own may use it
    Column("created_at", Float, nullable=False),
    UniqueConstraint("user_id", "site_id"),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", Id, primary_key=True),
    Column("user_id", Id, ForeignKey("users.id"), nullable=False),
    Column("name", String(220), nullable=False, server_default=""),
    Column("state", String(20), nullable=False),
    Column("reason", String(30), nullable=False, server_default=""),
    Column("message", Text, nullable=False, server_default=""),
    Column("spec", Text, nullable=False),
    Column("priority", Integer, nullable=False, server_default="0"),
    Column("deadline", Float),
    Column("array_id", Id),  # id of the array's first job
    Column("array_index", Integer),
    Column("submitted_at", Float, nullable=False),
    Column("started_at", Float),
    Column("ended_at", Float),
    Column("wake_at", Float),  # not to be placed before (back-off)
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("mem_bytes", BigInteger, nullable=False, server_default="0"),  # grown after OOM; 0: as in the spec
    Column("site_id", Id, ForeignKey("sites.id")),  # of the last attempt
    Column("node", String(200), nullable=False, server_default=""),
    Column("exit_code", Integer),
    Column("waiting_for", Integer, nullable=False, server_default="0"),  # dependencies not yet ended
    Column("zones", Text),  # JSON list: where its data may be, inherited from all that it reads; NULL: anywhere
    Column("kill_by", String(100)),  # who asked for its end
    Column("request_key", String(100)),  # a client's own key: the same request twice is one job
    Column("attention", Boolean, nullable=False, server_default=true()),  # the supervisor must look
    UniqueConstraint("user_id", "request_key"),
    Index("ix_jobs_attention", "attention", sqlite_where=text("attention = 1"), postgresql_where=text("attention")),
    Index("ix_jobs_state_id", "state", "id"),
    Index("ix_jobs_state_priority_id", "state", "priority", "id"),
    Index("ix_jobs_ended_at_state_user_id", "ended_at", "state", "user_id"),
    Index("ix_jobs_site_id_id", "site_id", "id"),
    Index("ix_jobs_user_id_id", "user_id", "id"),
    Index("ix_jobs_array_id", "array_id"),
)

dependencies = Table(
    "dependencies",
    metadata,
    Column("job_id", Id, ForeignKey("jobs.id"), primary_key=True),
    Column("on_job_id", Id, ForeignKey("jobs.id"), primary_key=True, index=True),
    Column("condition", String(20), nullable=False),
    Column("met", Boolean, nullable=False, server_default=false()),
)

attempts = Table(
    "attempts",
    metadata,
    Column("id", Id, primary_key=True),
    Column("key", String(60), nullable=False, unique=True),
    Column("job_id", Id, ForeignKey("jobs.id"), nullable=False, index=True),
    Column("number", Integer, nullable=False),
    Column("site_id", Id, ForeignKey("sites.id"), nullable=False),
    Column("user_id", Id, ForeignKey("users.id"), nullable=False),  # whose credential it runs under
    Column("live", Boolean, nullable=False, server_default=true()),
    Column("state", String(20), nullable=False),
    Column("reason", String(30), nullable=False, server_default=""),
    Column("message", Text, nullable=False, server_default=""),
    Column("plan", Text, nullable=False, server_default="{}"),  # queue, node type, GPUs: what placement chose
    Column("native_id", String(100), nullable=False, server_default=""),
    Column("native_state", Text, nullable=False, server_default=""),
    Column("nodes", Text, nullable=False, server_default=""),
    Column("exit_code", Integer),
    Column("signal", Integer),
    Column("created_at", Float, nullable=False),
    Column("submitted_at", Float),
    Column("started_at", Float),
    Column("ended_at", Float),
    Column("cleaned_at", Float),  # when its folder at the site was removed
    Column("reports", BigInteger, nullable=False, server_default="0"),  # offset of the next report wanted
    Column("log", BigInteger, nullable=False, server_default="0"),  # bytes of the log kept here
    Column("heard_at", Float),
    Column("token_hash", String(64), nullable=False),
    Column("usage", Text, nullable=False, server_default="{}"),  # the last and peak figures
    Column("progress", Text, nullable=False, server_default=""),
    # One live attempt of a job at most, whatever the code does.
    Index("uq_attempts_live_job", "job_id", unique=True, sqlite_where=text("live = 1"), postgresql_where=text("live")),
    Index("ix_attempts_ended_at", "ended_at"),
    Index("ix_attempts_site_id_id", "site_id", "id"),
    Index("ix_attempts_live", "live", sqlite_where=text("live = 1"), postgresql_where=text("live")),
)

metrics = Table(
    "metrics",
    metadata,
    Column("id", Id, primary_key=True),
    Column("attempt_id", Id, ForeignKey("attempts.id"), nullable=False),
    Column("name", String(200), nullable=False),
    Column("step", Float),
    Column("at", Float, nullable=False),
    Column("value", Float),  # NULL: not a finite number
    Index("ix_metrics_attempt_id_name_id", "attempt_id", "name", "id"),
)

# The lowest and the highest value of each BLOCK values of a series, so that a long one is drawn without reading it all.
metric_blocks = Table(
    "metric_blocks",
    metadata,
    Column("attempt_id", Id, ForeignKey("attempts.id"), primary_key=True),
    Column("name", String(200), primary_key=True),
    Column("first_id", Id, primary_key=True, autoincrement=False),  # of its first and last row in `metrics`
    Column("last_id", Id, nullable=False),
    Column("low_id", Id, nullable=False),
    Column("low_at", Float, nullable=False),
    Column("low_step", Float),
    Column("low_value", Float),  # NULL: none of its values is a finite number
    Column("high_id", Id, nullable=False),
    Column("high_at", Float, nullable=False),
    Column("high_step", Float),
    Column("high_value", Float),
    Column("lowest", Float),  # of all its values up to here; NULL: none was finite
    Column("highest", Float),
)

log_chunks = Table(
    "log_chunks",
    metadata,
    Column("attempt_id", Id, ForeignKey("attempts.id"), primary_key=True),
    Column("begin", BigInteger, primary_key=True),
    Column("size", Integer, nullable=False),
    Column("data", LargeBinary, nullable=False),  # zlib
)

outputs = Table(
    "outputs",
    metadata,
    Column("id", Id, primary_key=True),
    Column("job_id", Id, ForeignKey("jobs.id"), nullable=False, index=True),
    Column("attempt_id", Id, ForeignKey("attempts.id"), nullable=False),
    Column("path", Text, nullable=False),
    Column("kind", String(10), nullable=False),  # file, folder
    Column("size", BigInteger, nullable=False),
    Column("digest", String(80), nullable=False),
    Column("collected", Boolean, nullable=False, server_default=false()),  # whether the store has it
)

artefacts = Table(
    "artefacts",
    metadata,
    Column("id", Id, primary_key=True),
    Column("kind", String(10), nullable=False),
    Column("name", String(200), nullable=False),
    Column("version", String(100), nullable=False),
    Column("digest", String(80), nullable=False, index=True),
    Column("size", BigInteger, nullable=False),
    Column("is_folder", Boolean, nullable=False, server_default=false()),
    Column("format", String(20)),
    Column("reference", Text, nullable=False, server_default=""),
    Column("zones", Text, nullable=False, server_default="[]"),
    Column("labels", Text, nullable=False, server_default="{}"),
    Column("description", Text, nullable=False, server_default=""),
    Column("user_id", Id, ForeignKey("users.id"), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("removed_at", Float),
    UniqueConstraint("kind", "name", "version"),
)

replicas = Table(
    "replicas",
    metadata,
    Column("digest", String(80), primary_key=True),
    Column("site_id", Id, ForeignKey("sites.id"), primary_key=True),
    Column("user_id", Id, ForeignKey("users.id"), primary_key=True),  # whose folder there it lies in
    Column("state", String(20), nullable=False),
    Column("path", Text, nullable=False, server_default=""),
    Column("size", BigInteger, nullable=False, server_default="0"),
    Column("bytes_done", BigInteger, nullable=False, server_default="0"),
    Column("error", Text, nullable=False, server_default=""),
    Column("last_used_at", Float),
)

# Which content an attempt needs at its site: what is needed by a live one is not collected as garbage.
uses = Table(
    "uses",
    metadata,
    Column("attempt_id", Id, ForeignKey("attempts.id"), primary_key=True),
    Column("digest", String(80), primary_key=True, index=True),
)

events = Table(
    "events",
    metadata,
    Column("id", Id, primary_key=True),
    Column("at", Float, nullable=False),
    Column("actor", String(100), nullable=False),
    Column("noun", String(20), nullable=False),
    Column("noun_id", String(220), nullable=False),
    Column("verb", String(40), nullable=False),
    Column("before", Text, nullable=False, server_default=""),
    Column("after", Text, nullable=False, server_default=""),
    Column("reason", String(60), nullable=False, server_default=""),
    Column("message", Text, nullable=False, server_default=""),
    Column("job_id", Id),
    Index("ix_events_job_id_id", "job_id", "id"),
    Index("ix_events_noun_id", "noun", "noun_id", "id"),
)

# What admins say of placement, each document whole: its rules, its catalogue of prices.
documents = Table(
    "documents",
    metadata,
    Column("name", String(40), primary_key=True),
    Column("body", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("changed_at", Float, nullable=False),
    Column("changed_by", String(100), nullable=False),
)

# The last figure of a metric at a site, or why there is none.
figures = Table(
    "figures",
    metadata,
    Column("site_id", Id, ForeignKey("sites.id"), primary_key=True),
    Column("name", String(200), primary_key=True),
    Column("value", Float),  # the last that was had
    Column("at", Float, nullable=False),  # when it was
    Column("error", Text, nullable=False, server_default=""),  # why there was none since
)

leases = Table(
    "leases",
    metadata,
    Column("name", String(50), primary_key=True),
    Column("owner", String(100), nullable=False),
    Column("token", BigInteger, nullable=False),  # grows by one with each new owner: a fencing token
    Column("expires_at", Float, nullable=False),
)
