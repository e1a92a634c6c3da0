#include "util/worker.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <vector>

namespace cfr {
namespace {

constexpr auto kDeadline = std::chrono::seconds(10);

template <class T>
bool arrives(std::future<T>& future) {
  return future.wait_for(kDeadline) == std::future_status::ready;
}

TEST(Worker, RunsTasksOnItsThreadInTheirOrder) {
  Worker worker("test");
  std::vector<int> order;
  bool elsewhere = worker.is_current();
  bool there = false;
  for (int i = 0; i < 100; ++i) worker.post([&, i] { order.push_back(i); });
  EXPECT_TRUE(worker.call([&] { there = worker.is_current(); }));
  EXPECT_FALSE(elsewhere);
  EXPECT_TRUE(there);
  ASSERT_EQ(order.size(), 100u) << "a call comes after what was posted before it";
  for (int i = 0; i < 100; ++i) EXPECT_EQ(order[std::size_t(i)], i);
}

TEST(Worker, TasksMayPostTasks) {
  Worker worker("test");
  std::promise<int> done;
  auto future = done.get_future();
  worker.post([&] { worker.post([&] { worker.post([&] { done.set_value(3); }); }); });
  ASSERT_TRUE(arrives(future));
}

TEST(Worker, ItsContextIsTheThreadDefault) {
  Worker worker("test");
  GMainContext* context = nullptr;
  worker.call([&] { context = g_main_context_get_thread_default(); });
  EXPECT_EQ(context, worker.context());
}

TEST(Worker, SourcesOfItsContextRunBetweenPosts) {
  Worker worker("test");
  std::promise<void> fired;
  auto future = fired.get_future();
  std::atomic<bool> stop = false;
  std::function<void()> again = [&] {
    if (!stop) worker.post(again);
  };
  GSource* source = g_timeout_source_new(5);
  g_source_set_callback(
      source,
      [](gpointer promise) -> gboolean {
        static_cast<std::promise<void>*>(promise)->set_value();
        return G_SOURCE_REMOVE;
      },
      &fired, nullptr);
  worker.post(again);
  g_source_attach(source, worker.context());
  g_source_unref(source);
  EXPECT_TRUE(arrives(future)) << "a stream of posts starves timers";
  stop = true;
}

TEST(Worker, PostsOfManyThreadsAllArrive) {
  Worker worker("test");
  int count = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t)
    threads.emplace_back([&] {
      for (int i = 0; i < 1000; ++i) worker.post([&] { ++count; });
    });
  for (std::thread& thread : threads) thread.join();
  worker.call([] {});
  EXPECT_EQ(count, 8000);
}

TEST(Worker, DropsWhatIsPostedAfterQuit) {
  Worker worker("test");
  worker.quit();
  auto held = std::make_shared<int>(0);
  bool ran = false;
  worker.post([held, &ran] { ran = true; });
  EXPECT_EQ(held.use_count(), 1) << "the closure is destroyed";
  worker.join();
  EXPECT_FALSE(ran);
  EXPECT_FALSE(worker.call([&] { ran = true; }));
  EXPECT_FALSE(ran);
}

TEST(Worker, QuitDropsWhatIsPending) {
  Worker worker("test");
  auto held = std::make_shared<int>(0);
  bool ran = false;
  worker.post([&] {
    for (int i = 0; i < 10; ++i) worker.post([held, &ran] { ran = true; });
    worker.quit();
  });
  worker.join();
  EXPECT_FALSE(ran);
  EXPECT_EQ(held.use_count(), 1);
}

TEST(Worker, ACallIsReleasedWhenTheWorkerQuitsBeforeItsTurn) {
  Worker worker("test");
  std::promise<void> entered, go;
  auto is_in = entered.get_future();
  worker.post([&] {
    entered.set_value();
    go.get_future().wait();
    worker.quit();
  });
  ASSERT_TRUE(arrives(is_in));
  std::atomic<bool> started = false;
  bool ran = false;
  auto result = std::async(std::launch::async, [&] {
    started = true;
    return worker.call([&] { ran = true; });
  });
  while (!started) std::this_thread::yield();
  go.set_value();
  ASSERT_TRUE(arrives(result));
  EXPECT_EQ(result.get(), ran);
  EXPECT_FALSE(ran);
}

TEST(Worker, TheLastTaskMayHoldWhatPosts) {
  // A closure whose end posts to the worker, destroyed while the worker quits.
  auto worker = std::make_unique<Worker>("test");
  struct Poster {
    Worker* worker;
    ~Poster() {
      worker->post([] {});
    }
  };
  auto poster = std::make_shared<Poster>(Poster{worker.get()});
  worker->post([poster] {});
  worker->quit();
  poster.reset();
  worker->join();
}

TEST(Worker, StartsAndEndsManyTimes) {
  for (int i = 0; i < 200; ++i) {
    Worker worker("test");
    if (i % 2) worker.post([] {});
  }
}

TEST(Timer, FiresOnceOnTheWorker) {
  Worker worker("test");
  Timer timer;
  std::promise<bool> fired;
  auto future = fired.get_future();
  worker.call([&] { timer.start(worker, 5, [&] { fired.set_value(worker.is_current()); }); });
  ASSERT_TRUE(arrives(future));
  EXPECT_TRUE(future.get());
  bool armed = true;
  worker.call([&] { armed = timer.armed(); });
  EXPECT_FALSE(armed);
}

TEST(Timer, CanBeCancelledRestartedAndDestroyed) {
  Worker worker("test");
  std::promise<int> fired;
  auto future = fired.get_future();
  auto timer = std::make_unique<Timer>();
  worker.call([&] {
    Timer destroyed;
    destroyed.start(worker, 0, [&] { fired.set_value(1); });
    timer->start(worker, 0, [&] { fired.set_value(2); });
    timer->cancel();
    EXPECT_FALSE(timer->armed());
    timer->start(worker, 0, [&] { fired.set_value(3); });
    timer->start(worker, 1, [&] { fired.set_value(4); });
    EXPECT_TRUE(timer->armed());
  });
  ASSERT_TRUE(arrives(future));
  EXPECT_EQ(future.get(), 4);
  worker.call([&] { timer.reset(); });
}

TEST(Timer, ItsTaskMayRestartOrDestroyIt) {
  Worker worker("test");
  std::promise<void> gone;
  auto future = gone.get_future();
  auto* timer = new Timer;
  worker.call([&] {
    timer->start(worker, 0, [&] {
      timer->start(worker, 0, [&] {
        delete timer;
        gone.set_value();
      });
    });
  });
  EXPECT_TRUE(arrives(future));
}

}  // namespace
}  // namespace cfr
