import asyncio, time
def test_db(database):
    with database.connect() as c, c.cursor() as k:
        k.execute("create table t (id int)")
async def test_kafka(kafka, topic):
    n = topic()
    from aiokafka import AIOKafkaProducer
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, enable_idempotence=True) as p:
        print(await p.send_and_wait(n, b"x"))
    t=time.time(); await asyncio.to_thread(kafka.restart); print("restart", time.time()-t)
    t=time.time(); kafka.kill(); print("kill", time.time()-t); kafka.start(); print("start", kafka.start_seconds)
    t=time.time(); topic(max_message_bytes=2000); print("create", time.time()-t)
    t=time.time(); kafka.delete_topic(n); print("delete", time.time()-t)
async def test_mock(mock_kafka):
    from aiokafka import AIOKafkaProducer
    async with AIOKafkaProducer(bootstrap_servers=mock_kafka.bootstrap, enable_idempotence=True) as p:
        print(await p.send_and_wait("aa", b"x"))
def test_alive(kafka): assert kafka.running
