// How webrtcbin's and streaming threads reach the worker: copy, post, return. Once closed, what is
// posted vanishes, so a signal that is under way when its Peer ends does no harm.
#pragma once

#include <mutex>
#include <utility>

#include "util/worker.h"

namespace cfr {

class Mailbox {
 public:
  explicit Mailbox(Worker& worker) : worker_(&worker) {}

  // Any thread.
  void post(Worker::Task task) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (worker_) worker_->post(std::move(task));
  }
  void close() {
    std::lock_guard<std::mutex> lock(mutex_);
    worker_ = nullptr;
  }

 private:
  std::mutex mutex_;  // guards worker_
  Worker* worker_;    // null = closed
};

}  // namespace cfr
