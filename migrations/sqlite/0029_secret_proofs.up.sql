-- Tells the operator's secret, under which values are sealed, from another one: a value derived from
-- it, from which it does not follow. One row, once a program has opened the database with a secret.
CREATE TABLE secret_proofs (
    place INTEGER PRIMARY KEY CHECK (place = 1),
    proof BLOB NOT NULL
) STRICT;
