-- The tables of documents as a plain PostgreSQL has them, with the collation that documents have.
CREATE TABLE typed (
    id int8 PRIMARY KEY,
    kind text COLLATE "C" NOT NULL DEFAULT 'plain',
    bo bool,
    i2 int2,
    i4 int4,
    i8 int8,
    f4 float4,
    f8 float8,
    nu numeric,
    te text COLLATE "C",
    vc varchar(10) COLLATE "C",
    uu uuid,
    by bytea,
    tz timestamptz,
    ts timestamp,
    da date,
    js jsonb,
    ob varchar(24) COLLATE "C",
    bos bool[],
    i4s int4[],
    i8s int8[],
    f8s float8[],
    nus numeric[],
    tes text[] COLLATE "C",
    uus uuid[],
    tzs timestamptz[],
    das date[]
);

-- Models of Prisma's.
CREATE TABLE "Event" (
    id int4 PRIMARY KEY,
    kind text COLLATE "C" NOT NULL DEFAULT 'plain',
    "shopperId" int4,
    count int4 NOT NULL DEFAULT 0,
    hits int8,
    score float8,
    price numeric,
    done bool NOT NULL DEFAULT false,
    at timestamptz NOT NULL DEFAULT now(),
    data jsonb,
    tags text[] COLLATE "C"
);
CREATE TABLE "Note" (
    id uuid PRIMARY KEY,
    "eventId" int4 NOT NULL,
    body text COLLATE "C" NOT NULL,
    stars int2
);
