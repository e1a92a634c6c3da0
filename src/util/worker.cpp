#include "util/worker.h"

#include <pthread.h>

#include <condition_variable>
#include <string>
#include <utility>

namespace cfr {

namespace {
thread_local const Worker* current_worker = nullptr;
}

bool Worker::is_current() const { return current_worker == this; }

Worker::Worker(const char* thread_name) : context_(g_main_context_new()) {
  thread_ = std::thread([this, name = std::string(thread_name)] { run(name.c_str()); });
}

Worker::~Worker() {
  quit();
  join();
  g_main_context_unref(context_);
}

void Worker::run(const char* thread_name) {
  pthread_setname_np(pthread_self(), std::string(thread_name).substr(0, 15).c_str());
  current_worker = this;
  g_main_context_push_thread_default(context_);
  for (;;) {
    {
      std::lock_guard lock(mutex_);
      if (!accepting_) break;
    }
    g_main_context_iteration(context_, TRUE);
  }
  // What was cancelled has to hear of it, or it keeps its references for ever. Bounded, since a
  // source may be ready again and again.
  for (int left = 1000; left > 0 && g_main_context_iteration(context_, FALSE); --left) {
  }
  g_main_context_pop_thread_default(context_);
  std::deque<Task> dropped;
  std::lock_guard lock(mutex_);
  dropped.swap(queue_);  // closures that wait in call() notice their destruction
}

void Worker::post(Task task) {
  {
    std::lock_guard lock(mutex_);
    if (!accepting_) return;
    queue_.push_back(std::move(task));
    if (std::exchange(scheduled_, true)) return;
  }
  GSource* source = g_idle_source_new();
  g_source_set_priority(source, G_PRIORITY_DEFAULT);
  g_source_set_callback(
      source,
      [](gpointer self) -> gboolean {
        static_cast<Worker*>(self)->drain();
        return G_SOURCE_REMOVE;
      },
      this, nullptr);
  g_source_attach(source, context_);
  g_source_unref(source);
}

void Worker::drain() {
  // Later posts, made by these tasks too, get their turn after timers and sockets.
  std::deque<Task> batch;
  {
    std::lock_guard lock(mutex_);
    batch.swap(queue_);
    scheduled_ = false;
  }
  for (Task& task : batch) {
    {
      std::lock_guard lock(mutex_);
      if (!accepting_) return;
    }
    task();
    task = nullptr;
  }
}

bool Worker::call(const Task& task) {
  struct Rendezvous {
    std::mutex mutex;
    std::condition_variable changed;
    bool finished = false;
    bool ran = false;
  };
  auto meeting = std::make_shared<Rendezvous>();
  // Signals also when the closure is dropped unrun because the worker quit meanwhile.
  struct Signal {
    std::shared_ptr<Rendezvous> meeting;
    ~Signal() {
      std::lock_guard lock(meeting->mutex);
      meeting->finished = true;
      meeting->changed.notify_one();
    }
  };
  // Made in place: a temporary's destructor would already signal.
  auto signal = std::make_shared<Signal>();
  signal->meeting = meeting;
  post([&task, signal] {
    task();
    std::lock_guard lock(signal->meeting->mutex);
    signal->meeting->ran = true;
  });
  signal.reset();
  std::unique_lock lock(meeting->mutex);
  meeting->changed.wait(lock, [&] { return meeting->finished; });
  return meeting->ran;
}

void Worker::quit() {
  {
    std::lock_guard lock(mutex_);
    accepting_ = false;
  }
  g_main_context_wakeup(context_);
}

void Worker::join() {
  if (thread_.joinable()) thread_.join();
}

struct Timer::Shot {
  Timer* timer;
  Worker::Task task;
};

void Timer::start(Worker& worker, unsigned delay_ms, Worker::Task task) {
  cancel();
  source_ = g_timeout_source_new(delay_ms);
  g_source_set_callback(
      source_,
      [](gpointer data) -> gboolean {
        auto* shot = static_cast<Shot*>(data);
        auto task = std::move(shot->task);
        g_source_unref(std::exchange(shot->timer->source_, nullptr));
        task();  // may restart or destroy the timer
        return G_SOURCE_REMOVE;
      },
      new Shot{this, std::move(task)}, [](gpointer data) { delete static_cast<Shot*>(data); });
  g_source_attach(source_, worker.context());
}

void Timer::cancel() {
  if (!source_) return;
  GSource* source = std::exchange(source_, nullptr);
  g_source_destroy(source);
  g_source_unref(source);
}

}  // namespace cfr
