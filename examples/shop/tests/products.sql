INSERT INTO products (sku, name, price, stock) VALUES
    ('book', 'A book', 1200, 5),
    ('lamp', 'A lamp', 4900, 1);
