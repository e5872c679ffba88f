"""Django's ORM: prefetch_related, select_related, annotations, get_or_create, bulk_create, pages, transactions.

    with_django.py [binds]: with `binds` values are sent apart from the text.

Every model is sharded by its id, so that its relations go over shards; what belongs to an author by a composite key lies with
its author; the table of tags and articles is sharded by the article.
"""

import datetime
import decimal
import sys

import django
from django.conf import settings
from django.db.backends.postgresql import base as driver

from record import case, login, play, recording

BINDS = "binds" in sys.argv
LOGIN = login()
settings.configure(
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": LOGIN["dbname"],
            "USER": LOGIN["user"],
            "PASSWORD": LOGIN["password"],
            "HOST": LOGIN["host"],
            "PORT": LOGIN["port"],
            "OPTIONS": {"server_side_binding": BINDS, "cursor_factory": recording(driver.ServerBindingCursor if BINDS else driver.Cursor)},
        }
    },
    INSTALLED_APPS=["shop"],
    USE_TZ=False,
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
)
django.setup()

from django.db import IntegrityError, connection, connections, models, transaction  # noqa: E402
from django.db.models import (  # noqa: E402
    Avg, Case, Count, Exists, F, Max, Min, OuterRef, Prefetch, Q, StdDev, Subquery, Sum, Value, When, Window,
)
from django.db.models.functions import Coalesce, Concat, Length, Lower, Rank, RowNumber, TruncMonth, Upper  # noqa: E402
from shop.models import Article, Author, Comment, Note, Profile, Tag, Tagged  # noqa: E402

D = decimal.Decimal


MODELS = [Author, Profile, Note, Tag, Article, Tagged, Comment]


def rows(query):
    return list(query)


def undone(act):
    """What `act` gives, in a transaction that is rolled back."""
    with transaction.atomic():
        done = act()
        transaction.set_rollback(True)
    return done


def make(atomic):
    with connection.schema_editor(atomic=atomic) as editor:
        for model in MODELS:
            editor.create_model(model)


def articles():
    return [
        Article(
            author_id=n % 12 + 1, title=f"Article {n:02}", words=n * 37 % 500, price=D(n) / 4,
            published=datetime.datetime(2023, n % 12 + 1, 3, 4, 5, 6) if n % 5 else None,
        )
        for n in range(40)
    ]


@case
def tables_are_made_in_one_transaction():
    try:
        with transaction.atomic():
            make(atomic=True)
            transaction.set_rollback(True)
    finally:
        # What fails at the end of a schema editor leaves its transaction open.
        connection.connection.close()
        del connections["default"]


@case
def tables_are_made():
    make(atomic=False)


@case
def rows_are_created_one_by_one():
    for n in range(1, 13):
        author = Author.objects.create(name=f"a{n:02}", country=["cz", "jp", "is"][n % 3], born=datetime.date(1950 + n, 1, n))
        if n % 2:
            Profile.objects.create(author=author, bio=f"bio {n}", data={"n": n, "even": n % 4 == 0})
        for number in range(n % 3):
            author.notes.create(number=number, text=f"note {number}")
    return [a.id for a in Author.objects.all()]


@case
def rows_with_relations_are_created():
    for n in range(6):
        Tag.objects.create(name=f"t{n}")
    for article in articles():
        article.save()
    for n in range(90):
        Comment.objects.create(article_id=n * 7 % 40 + 1, stars=n % 5 + 1, text=f"c{n}" if n % 3 else None, reply_to_id=n // 3 or None)
    for n in range(0, 80, 3):
        Tagged.objects.create(article_id=n % 40 + 1, tag_id=f"t{n * 5 % 6}")
    return [a.id for a in Article.objects.all()]


@case
def get_and_misses():
    try:
        Author.objects.get(pk=999)
    except Author.DoesNotExist:
        return Author.objects.get(pk=3).name, Author.objects.get(name="a07").id, Author.objects.filter(pk=1000).first(), Note.objects.get(pk=(2, 1)).text


@case
def filters():
    return (
        rows(Author.objects.filter(pk__in=[1, 4, 7]).values_list("id", "name")),
        rows(Author.objects.filter(Q(country="cz") | Q(name__startswith="a1"), ~Q(id=3)).values_list("id", flat=True)),
        rows(Article.objects.filter(title__icontains="LE 1", words__gte=100).values_list("id", "words")),
        rows(Article.objects.filter(published__isnull=True).values_list("id", flat=True)),
        rows(Article.objects.filter(published__year=2023, published__month__lte=3).values_list("id", flat=True)),
        rows(Article.objects.exclude(words__range=(50, 400)).values_list("id", flat=True)),
        rows(Author.objects.filter(name__regex=r"a\d[357]").values_list("id", flat=True)),
    )


@case
def filters_by_json():
    return rows(Profile.objects.filter(data__n__gt=4).order_by("pk").values_list("pk", "data")), rows(
        Profile.objects.filter(data__contains={"even": False}).order_by("pk").values_list("pk", flat=True)
    )


@case
def count_exists_first_last():
    return Comment.objects.count(), Comment.objects.filter(stars=9).exists(), Comment.objects.filter(stars=5).exists(), Author.objects.first().id, Author.objects.last().id


@case
def pages():
    query = Article.objects.order_by("-words", "id").values_list("id", "words")
    return rows(query[:5]), rows(query[5:10]), rows(query[38:50]), query[3]


@case
def paginator():
    from django.core.paginator import Paginator
    pages = Paginator(Comment.objects.order_by("id"), 25)
    return pages.count, pages.num_pages, [[c.id for c in pages.page(n)] for n in (1, 4)]


@case
def in_bulk_and_earliest_and_latest():
    return sorted(Author.objects.in_bulk([2, 5, 900])), Article.objects.earliest("published", "id").id, Article.objects.latest("price").id


@case
def values_and_distinct():
    return (
        rows(Author.objects.values("country").distinct().order_by("country")),
        rows(Comment.objects.order_by("article_id", "-id").distinct("article_id").values_list("article_id", "id")),
        rows(Comment.objects.values_list("stars", flat=True).order_by("stars").distinct()),
        rows(Article.objects.dates("published", "month")),
    )


@case
def select_related_over_shards():
    return [(c.id, c.article.title, c.article.author.name) for c in Comment.objects.select_related("article__author").order_by("id")[:30]]


@case
def select_related_of_colocated():
    return [(p.pk, p.author.name) for p in Profile.objects.select_related("author").order_by("pk")], [
        (n.number, n.author.name) for n in Note.objects.select_related("author").order_by("author_id", "number")
    ]


@case
def select_related_backwards_and_nullable():
    found = Author.objects.select_related("profile").order_by("id")
    return [(a.id, getattr(getattr(a, "profile", None), "bio", None)) for a in found], [
        (c.id, c.reply_to and c.reply_to.stars) for c in Comment.objects.select_related("reply_to").filter(stars__gt=3)
    ]


@case
def prefetch_related_forwards_and_backwards():
    return [(a.name, [(r.id, [c.stars for c in r.comments.all()]) for r in a.articles.all()]) for a in Author.objects.prefetch_related("articles__comments")], [
        (c.id, c.article.title) for c in Comment.objects.prefetch_related("article")
    ]


@case
def prefetch_related_of_pairs():
    return [(a.id, [t.name for t in a.tags.all()]) for a in Article.objects.prefetch_related("tags")], [
        (t.name, sorted(a.id for a in t.articles.all())) for t in Tag.objects.prefetch_related("articles")
    ]


@case
def prefetch_with_a_query_of_its_own():
    good = Prefetch("comments", Comment.objects.filter(stars__gte=4).order_by("-stars", "id"), to_attr="good")
    return [(a.id, [c.id for c in a.good]) for a in Article.objects.prefetch_related(good)]


@case
def prefetch_of_the_first_two():
    some = Prefetch("comments", Comment.objects.order_by("-stars", "id")[:2])
    return [(a.id, [c.id for c in a.comments.all()]) for a in Article.objects.filter(id__lt=20).prefetch_related(some)]


@case
def filters_over_relations():
    return (
        rows(Article.objects.filter(author__country="cz").values_list("id", flat=True)),
        rows(Author.objects.filter(articles__comments__stars=5).distinct().values_list("id", flat=True)),
        rows(Author.objects.exclude(articles__words__gt=450).values_list("id", flat=True)),
        rows(Article.objects.filter(tags__name="t3").values_list("id", flat=True)),
        rows(Article.objects.filter(tags__name__in=["t0", "t3"]).exclude(tags__name="t3").values_list("id", flat=True)),
        rows(Author.objects.filter(profile__isnull=True).values_list("id", flat=True)),
        rows(Comment.objects.filter(reply_to__reply_to__stars=2).values_list("id", flat=True)),
        rows(Author.objects.filter(notes__text="note 1").values_list("id", flat=True)),
    )


@case
def aggregates():
    return (
        Comment.objects.aggregate(Count("id"), Count("text"), Sum("stars"), Avg("stars"), Max("stars"), Min("text"), StdDev("stars"), n=Count("article", distinct=True)),
        Article.objects.filter(id=0).aggregate(Sum("price"), Count("id")), Article.objects.aggregate(total=Sum(F("price") * F("words")), mean=Avg("price")),
    )


@case
def aggregates_over_relations():
    return Author.objects.aggregate(n=Count("articles"), stars=Sum("articles__comments__stars")), Article.objects.aggregate(good=Count("comments", filter=Q(comments__stars__gt=3)))


@case
def annotations_with_counts():
    return (
        rows(Author.objects.annotate(n=Count("notes")).order_by("id").values_list("id", "n")),
        rows(Author.objects.annotate(n=Count("articles"), w=Sum("articles__words")).order_by("id").values_list("id", "n", "w")),
        rows(Article.objects.annotate(n=Count("comments")).filter(n__gt=2).order_by("-n", "id").values_list("id", "n")),
        rows(Article.objects.annotate(n=Count("tags", distinct=True), c=Count("comments", distinct=True)).order_by("id").values_list("id", "n", "c")),
        rows(Tag.objects.annotate(n=Count("articles")).order_by("name").values_list("name", "n")),
    )


@case
def group_by():
    return (
        rows(Author.objects.values("country").annotate(n=Count("id")).order_by("country")),
        rows(Comment.objects.values("stars").annotate(n=Count("id"), a=Avg("article_id")).order_by("-n", "stars")),
        rows(Article.objects.values("author__country").annotate(w=Sum("words"), p=Max("price")).order_by("author__country")),
        rows(Article.objects.annotate(m=TruncMonth("published")).values("m").annotate(n=Count("id")).order_by("m")),
        rows(Article.objects.values("author").annotate(n=Count("id")).filter(n__gte=4).order_by("author")),
    )


@case
def annotations_with_expressions():
    return (
        rows(Author.objects.annotate(u=Upper("name"), l=Length("name"), both=Concat("name", Value("/"), Lower("country"))).values_list("u", "l", "both")),
        rows(Article.objects.annotate(k=Case(When(words__lt=100, then=Value("short")), default=Value("long"))).values_list("id", "k")),
        rows(Article.objects.filter(words__gt=F("price") * 10).values_list("id", flat=True)),
        rows(Article.objects.annotate(c=Coalesce("published", Value(datetime.datetime(2000, 1, 1)))).order_by("c", "id").values_list("id", "c")),
    )


@case
def subqueries_and_exists():
    newest = Comment.objects.filter(article=OuterRef("pk")).order_by("-id")
    return (
        rows(Article.objects.annotate(newest=Subquery(newest.values("stars")[:1])).values_list("id", "newest")),
        rows(Article.objects.filter(Exists(newest.filter(stars=5))).values_list("id", flat=True)),
        rows(Article.objects.filter(~Exists(newest)).values_list("id", flat=True)),
        rows(Author.objects.filter(id__in=Article.objects.filter(words__gt=400).values("author")).values_list("id", flat=True)),
        rows(Author.objects.annotate(n=Subquery(Article.objects.filter(author=OuterRef("pk")).values("author").annotate(n=Count("*")).values("n"))).values_list("id", "n")),
    )


@case
def windows():
    return (
        rows(Comment.objects.annotate(r=Window(RowNumber(), partition_by="article", order_by=["-stars", "id"])).order_by("id").values_list("id", "r")),
        rows(Article.objects.annotate(r=Window(Rank(), order_by="words")).order_by("r", "id").values_list("id", "r")),
        rows(Comment.objects.annotate(r=Window(RowNumber(), partition_by="article", order_by=["-stars", "id"])).filter(r=1).values_list("id", flat=True)),
    )


@case
def unions():
    a, b = Author.objects.values_list("name"), Tag.objects.values_list("name")
    return rows(a.union(b).order_by("name")), rows(a.union(a, all=True).order_by("name")), rows(a.intersection(b)), rows(a.difference(b).order_by("name"))


@case
def only_and_defer():
    return [a.name for a in Author.objects.only("name")], [a.title for a in Article.objects.defer("words", "price")[:3]]


@case
def iterator_reads_in_parts():
    return [c.id for c in Comment.objects.order_by("id").iterator(chunk_size=20)]


@case
def iterator_in_a_transaction():
    with transaction.atomic():
        return [c.id for c in Comment.objects.order_by("id").iterator(chunk_size=40)]


@case
def explain_runs():
    return "actual" not in Article.objects.filter(author__country="cz").explain()


@case
def save_update_and_delete():
    def act():
        author = Author.objects.get(pk=4)
        author.name = "renamed"
        author.save()
        author.save(update_fields=["country"])
        author.refresh_from_db()
        article = Article.objects.get(pk=7)
        article.words = F("words") + 1
        article.save()
        article.refresh_from_db()
        return author.name, article.words, Article.objects.get(pk=8).delete(), Note.objects.filter(author_id=2).delete()
    return undone(act)


@case
def save_with_a_given_key():
    def act():
        Author(id=500, name="new", country="xx", born=datetime.date(2000, 1, 1)).save()
        Author(id=500, name="again", country="xx", born=datetime.date(2000, 1, 1)).save()
        return Author.objects.get(pk=500).name
    return undone(act)


@case
def delete_cascades():
    return undone(lambda: (Author.objects.get(pk=5).delete(), Comment.objects.count()))


@case
def delete_of_many():
    return undone(lambda: (Comment.objects.filter(stars=1).delete(), Article.objects.filter(author__country="jp").delete()))


@case
def update_of_many():
    def act():
        return (
            Article.objects.filter(words__lt=100).update(words=F("words") * 2, title=Concat("title", Value("!"))),
            Comment.objects.update(stars=1), Author.objects.filter(pk=3).update(country="zz"),
            Comment.objects.filter(article__author__country="cz").update(text="moved"),
            Comment.objects.aggregate(Sum("stars")),
        )
    return undone(act)


@case
def update_with_subquery():
    best = Comment.objects.filter(article=OuterRef("pk")).order_by("-stars", "id").values("stars")[:1]
    return undone(lambda: (Article.objects.update(words=Coalesce(Subquery(best), 0)), Article.objects.aggregate(Sum("words"))))


@case
def bulk_update():
    def act():
        articles = list(Article.objects.filter(id__lte=10))
        for article in articles:
            article.words += 100
            article.title = f"bulk {article.id}"
        return Article.objects.bulk_update(articles, ["words", "title"]), rows(Article.objects.filter(id__lte=12).values_list("title", "words"))
    return undone(act)


@case
def get_or_create_and_update_or_create():
    def act():
        one, made = Author.objects.get_or_create(name="a05", defaults=dict(country="xx", born=datetime.date(2000, 1, 1)))
        two, made_too = Author.objects.get_or_create(name="someone", defaults=dict(country="xx", born=datetime.date(2000, 1, 1)))
        tag = Tag.objects.get_or_create(name="fresh")[1], Tag.objects.get_or_create(name="fresh")[1]
        return one.id, made, made_too, two.name, tag
    return undone(act)


@case
def update_or_create():
    return undone(lambda: Profile.objects.update_or_create(author_id=1, defaults={"bio": "changed"}))


@case
def bulk_create_with_update_conflicts():
    def act():
        new = [Note(author_id=n, number=1, text=f"bulk {n}") for n in range(1, 7)]
        Note.objects.bulk_create(new, update_conflicts=True, unique_fields=["author_id", "number"], update_fields=["text"])
        Tag.objects.bulk_create([Tag(name=f"t{n}") for n in range(9)], ignore_conflicts=True)
        return rows(Note.objects.order_by("author_id", "number").values_list("author_id", "number", "text", "seen")), Tag.objects.count()
    return undone(act)


@case
def pairs_are_added_set_and_cleared():
    def act():
        article = Article.objects.get(pk=11)
        article.tags.add("t1", "t2")
        article.tags.set(["t2", "t5"])
        article.tags.remove("t5")
        left = [t.name for t in article.tags.all()]
        article.tags.clear()
        return left, article.tags.count()
    return undone(act)


@case
def savepoints():
    def act():
        Tag.objects.create(name="outer")
        try:
            with transaction.atomic():
                Tag.objects.create(name="inner")
                Tag.objects.create(name="outer")
        except IntegrityError as error:
            return type(error).__name__, rows(Tag.objects.filter(name__in=["inner", "outer"]).values_list("name", flat=True))
    return undone(act)


@case
def transaction_over_shards_commits():
    with transaction.atomic():
        Author.objects.filter(pk=1).update(country="aa")
        Author.objects.filter(pk=2).update(country="aa")
    return Author.objects.filter(country="aa").count()


@case
def row_lock_of_one_row():
    return undone(lambda: Author.objects.select_for_update().get(pk=6).name)


@case
def row_locks_over_shards():
    return undone(lambda: [a.id for a in Author.objects.select_for_update().filter(country="cz")])


@case
def raw_queries():
    with connection.cursor() as cursor:
        cursor.execute("SELECT country, count(*) FROM shop_author GROUP BY country HAVING count(*) > %s ORDER BY 1", [1])
        return cursor.fetchall(), [a.name for a in Author.objects.raw("SELECT * FROM shop_author WHERE id < %s ORDER BY id", [4])]


@case
def tables_are_described():
    with connection.cursor() as cursor:
        introspection = connection.introspection
        return sorted(n for n in introspection.table_names(cursor) if n.startswith("shop_")), introspection.get_primary_key_columns(cursor, "shop_note")


@case
def bulk_create_updates_by_given_keys():
    def act():
        articles = [Article(id=n, author_id=1, title=f"upsert {n}", words=n, price=n) for n in range(35, 45)]
        Article.objects.bulk_create(articles, update_conflicts=True, unique_fields=["id"], update_fields=["title", "words"])
        return rows(Article.objects.filter(id__gte=33).values_list("id", "title", "words"))
    return undone(act)


@case
def bulk_create():
    def act():
        made = Article.objects.bulk_create(articles())
        Comment.objects.bulk_create([Comment(article=made[n], stars=n) for n in range(30)], batch_size=20)
        return [a.id for a in made], Comment.objects.count()
    return undone(act)


@case
def bulk_create_of_pairs():
    return undone(lambda: (Article.objects.get(pk=12).tags.add("t1", "t2", "t4"), Article.objects.get(pk=12).tags.count()))


@case
def columns_are_added_and_changed():
    field = models.IntegerField(default=7)
    field.set_attributes_from_name("extra")
    with connection.schema_editor(atomic=False) as editor:
        editor.add_field(Comment, field)
        editor.remove_field(Comment, field)


@case
def tables_are_dropped():
    with connection.schema_editor(atomic=False) as editor:
        for model in reversed(MODELS):
            editor.delete_model(model)


play()
