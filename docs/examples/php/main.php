<?php

// DATABASE_DSN='mysql:host=127.0.0.1;port=3306;dbname=shop;user=root;charset=utf8mb4' php main.php ORDER TOTAL

require __DIR__ . '/place_order.php';

$db = new PDO(getenv('DATABASE_DSN'), options: [PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION]);
placeOrder($db, (int) $argv[1], $argv[2]);
