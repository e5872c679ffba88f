"""What the Django program works on: authors with articles, comments, tags and notes."""

from django.db import models


class Author(models.Model):
    name = models.CharField(max_length=40)
    country = models.CharField(max_length=2, db_index=True)
    born = models.DateField()

    class Meta:
        ordering = ["id"]


class Profile(models.Model):
    author = models.OneToOneField(Author, models.CASCADE, primary_key=True, related_name="profile")
    bio = models.TextField(default="")
    data = models.JSONField(default=dict)


class Note(models.Model):
    pk = models.CompositePrimaryKey("author_id", "number")
    author = models.ForeignKey(Author, models.CASCADE, related_name="notes")
    number = models.IntegerField()
    text = models.CharField(max_length=40)
    seen = models.IntegerField(default=0)


class Tag(models.Model):
    name = models.CharField(max_length=20, primary_key=True)

    class Meta:
        ordering = ["name"]


class Article(models.Model):
    author = models.ForeignKey(Author, models.CASCADE, related_name="articles", db_constraint=False)
    title = models.CharField(max_length=60)
    words = models.IntegerField(default=0)
    price = models.DecimalField(max_digits=8, decimal_places=2)
    published = models.DateTimeField(null=True)
    tags = models.ManyToManyField(Tag, related_name="articles", through="Tagged")

    class Meta:
        ordering = ["id"]


class Tagged(models.Model):
    article = models.ForeignKey(Article, models.CASCADE, db_constraint=False)
    tag = models.ForeignKey(Tag, models.CASCADE, db_constraint=False)

    class Meta:
        db_table = "shop_article_tags"
        constraints = [models.UniqueConstraint(fields=["article", "tag"], name="article_tag")]


class Comment(models.Model):
    article = models.ForeignKey(Article, models.CASCADE, related_name="comments", db_constraint=False)
    reply_to = models.ForeignKey("self", models.CASCADE, null=True, related_name="replies", db_constraint=False)
    stars = models.IntegerField()
    text = models.TextField(null=True)

    class Meta:
        ordering = ["id"]
