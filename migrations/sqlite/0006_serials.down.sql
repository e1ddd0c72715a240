DROP TABLE serials;
