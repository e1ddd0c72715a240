DROP TABLE secret_proofs;
