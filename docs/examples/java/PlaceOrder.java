import java.sql.Connection;
import java.sql.SQLException;

class PlaceOrder {
    static final String ORDER = "INSERT INTO orders (id, total) VALUES (?, ?)";
    static final String EVENT = """
        INSERT INTO outbox_events (event_id, event_type, aggregate_type, aggregate_id, topic, payload)
        VALUES (UUID(), 'order.placed', 'order', ?, 'orders', JSON_OBJECT('order', ?, 'total', ?))""";

    static void placeOrder(Connection connection, long order, String total) throws SQLException {
        connection.setAutoCommit(false);
        try (var row = connection.prepareStatement(ORDER); var event = connection.prepareStatement(EVENT)) {
            row.setLong(1, order);
            row.setString(2, total);
            row.executeUpdate();
            event.setString(1, Long.toString(order));
            event.setLong(2, order);
            event.setString(3, total);
            event.executeUpdate();
            connection.commit();
        } catch (SQLException | RuntimeException failure) {
            connection.rollback();
            throw failure;
        }
    }
}
