import java.sql.DriverManager;

/** DATABASE_DSN='jdbc:mariadb://127.0.0.1:3306/shop?user=root' java -cp '.:lib/*' Main ORDER TOTAL */
class Main {
    public static void main(String[] arguments) throws Exception {
        try (var connection = DriverManager.getConnection(System.getenv("DATABASE_DSN"))) {
            PlaceOrder.placeOrder(connection, Long.parseLong(arguments[0]), arguments[1]);
        }
    }
}
