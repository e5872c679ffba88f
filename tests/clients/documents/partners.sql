-- What lies in PostgreSQL on both sides, to be joined with.
CREATE TABLE kinds (
    name text COLLATE "C" PRIMARY KEY,
    title text
);
INSERT INTO kinds VALUES ('plain', 'Plain'), ('rare', 'Rare'), ('odd', NULL);

-- A model of Prisma's.
CREATE TABLE "Shopper" (
    id int PRIMARY KEY,
    name text NOT NULL,
    city text
);
